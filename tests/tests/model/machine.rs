//! All of it as one machine: which steps can be taken in a state, and where they lead.

use stateright::{Model, Property};

use super::{
    duties, faults, invariants, producer,
    rules::{Door, Protocol, Step},
    state::{Client, Duty, JOBS, Postgres, Redis, State, Worker},
    worker,
};

/// A property's condition, and whether to stop where it is true or where it is false.
pub(crate) type Until = (fn(&Machine, &State) -> bool, bool);

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) protocol: Protocol,
    /// Where a search stops: beyond such a state nothing is looked at.
    pub(crate) until: Option<Until>,
}

impl Machine {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            until: None,
        }
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = u8> {
        (0u8..)
            .zip(self.protocol.doors)
            .filter(|(_, door)| *door != Door::Shut)
            .map(|(job, _)| job)
    }

    /// What the protocol does by itself, without any fault.
    fn own_steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::with_capacity(16);
        producer::steps(&self.protocol, state, &mut steps);
        worker::steps(&self.protocol, state, &mut steps);
        duties::steps(&self.protocol, state, &mut steps);
        if state.redis.down {
            steps.push(Step::RedisUp);
        }
        steps
    }

    /// Something goes on by itself. What must be healed from outside does not count while one worker is up.
    pub(crate) fn is_driven(&self, state: &State) -> bool {
        if is_at_work(state) {
            return true;
        }
        let up = state.workers.iter().any(|worker| !worker.frozen);
        self.own_steps(state)
            .iter()
            .any(|step| !up || !matches!(step, Step::Thaw(_) | Step::RedisUp))
    }

    pub(crate) fn is_at_rest(&self, state: &State) -> bool {
        !is_at_work(state) && self.own_steps(state).is_empty()
    }

    fn apply(&self, state: &mut State, step: Step) {
        use Step as S;
        match step {
            S::Enqueue(_)
            | S::EnqueueOpen(_)
            | S::EnqueueCommit(_)
            | S::EnqueueAbort(_)
            | S::EnqueueUnknown { .. }
            | S::Repeat(_)
            | S::GiveUp(_)
            | S::Publish(_)
            | S::PublishRefused(_)
            | S::ProducerDies(_)
            | S::ProducerLate(_) => {
                producer::apply(&self.protocol, state, step);
            }
            S::MakeGroup(_)
            | S::Read(..)
            | S::ReplyLost(..)
            | S::Claim(..)
            | S::Lease { .. }
            | S::Settle { .. }
            | S::StartChild { .. }
            | S::Conclude(..)
            | S::AckTorn(..)
            | S::ReturnOwnPending(..)
            | S::BeatStopsLostRun { .. }
            | S::BeatReturnsLease { .. }
            | S::ClaimDirectly(..)
            | S::Crash(_)
            | S::Freeze(_)
            | S::Thaw(_) => worker::apply(&self.protocol, state, step),
            S::Lose(_)
            | S::Flush
            | S::RepeatEntry(_)
            | S::Forge(_)
            | S::Resurrect { .. }
            | S::Ungroup
            | S::SkipAhead
            | S::Unpend(_)
            | S::RedisDown
            | S::RedisUp => faults::apply(state, step),
            _ => duties::apply(&self.protocol, state, step),
        }
    }
}

/// Plainly in the middle of something: spares working out all steps.
fn is_at_work(state: &State) -> bool {
    let in_hand = |worker: &Worker| {
        !worker.read.is_empty()
            || !worker.after.is_empty()
            || worker.holds.iter().any(Option::is_some)
    };
    state.clients.iter().any(|client| *client != Client::Done)
        || state
            .workers
            .iter()
            .any(|worker| !worker.frozen && in_hand(worker))
        || state
            .duties
            .iter()
            .any(|duty| !matches!(duty, Duty::Idle | Duty::Listed { .. }))
}

impl Model for Machine {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let clients = self.protocol.doors.map(|door| {
            if door == Door::Shut {
                Client::Done
            } else {
                Client::New
            }
        });
        vec![State {
            clients,
            postgres: Postgres {
                rows: [None; JOBS],
                parcels: Vec::new(),
            },
            redis: Redis {
                down: false,
                group: true,
                entries: Vec::new(),
            },
            workers: Default::default(),
            duties: [Duty::Idle, Duty::Idle],
            ghosts: Default::default(),
            faults: self.protocol.faults,
            faults_in_all: self.protocol.faults_in_all,
            broken: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if self
            .until
            .is_some_and(|(condition, so)| condition(self, state) == so)
        {
            return;
        }
        actions.append(&mut self.own_steps(state));
        if state.faults_in_all > 0 {
            producer::faults(state, actions);
            worker::faults(state, actions);
            duties::faults(state, actions);
            faults::faults(state, actions);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, step);
        Some(next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties()
    }
}
