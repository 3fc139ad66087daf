//! The caller of an enqueue: commit with an answer or without, repeat with the same id, publish after COMMIT.

use super::{
    rules::{Door, Fault, Protocol, Step},
    state::{Client, Entry, Hint, JOBS, Parcel, Place, State},
};

pub(crate) fn steps(protocol: &Protocol, state: &State, out: &mut Vec<Step>) {
    for job in 0..JOBS as u8 {
        match state.clients[job as usize] {
            Client::New if protocol.variant.publish_before_commit => {
                out.push(Step::EnqueueOpen(job));
            }
            Client::New => out.push(Step::Enqueue(job)),
            Client::Open => out.extend([Step::EnqueueCommit(job), Step::EnqueueAbort(job)]),
            Client::Unsure => out.extend([Step::Repeat(job), Step::GiveUp(job)]),
            Client::Promised { .. } => out.push(Step::Publish(job)),
            Client::Done => {}
        }
    }
}

pub(crate) fn faults(state: &State, out: &mut Vec<Step>) {
    for job in 0..JOBS as u8 {
        match state.clients[job as usize] {
            Client::New if state.may(Fault::Unknown) => {
                out.extend([true, false].map(|committed| Step::EnqueueUnknown { job, committed }));
            }
            Client::Promised { late } => {
                if state.may(Fault::Dropped) {
                    out.push(Step::ProducerDies(job));
                }
                if state.may(Fault::Refused) {
                    out.push(Step::PublishRefused(job));
                }
                if state.may(Fault::Late) && !late {
                    out.push(Step::ProducerLate(job));
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn apply(protocol: &Protocol, state: &mut State, step: Step) {
    let (job, client) = match step {
        Step::Enqueue(job) | Step::Repeat(job) => (job, enqueue(protocol, state, job)),
        Step::EnqueueOpen(job) => {
            state
                .redis
                .add(Entry::original(Hint { job, epoch: 0 }), Place::Unread);
            (job, Client::Open)
        }
        Step::EnqueueCommit(job) => {
            state.persist(job, Parcel::Publishing);
            (job, Client::Done)
        }
        Step::EnqueueUnknown { job, committed } => {
            state.spend(Fault::Unknown);
            if committed {
                enqueue(protocol, state, job);
            }
            (job, Client::Unsure)
        }
        Step::EnqueueAbort(job) | Step::GiveUp(job) => (job, Client::Done),
        Step::Publish(job) => {
            add(protocol, state, Hint { job, epoch: 0 });
            (job, Client::Done)
        }
        Step::PublishRefused(job) => {
            state.spend(Fault::Refused);
            state.put_off(Hint { job, epoch: 0 });
            (job, Client::Done)
        }
        Step::ProducerDies(job) => {
            state.spend(Fault::Dropped);
            (job, Client::Done)
        }
        Step::ProducerLate(job) => {
            state.spend(Fault::Late);
            state.ghosts[job as usize].late = true;
            (job, Client::Promised { late: true })
        }
        other => unreachable!("not a producer's step: {other:?}"),
    };
    state.clients[job as usize] = client;
}

/// A repeated request that wrote nothing gets no parcel, so there is nothing to publish.
fn enqueue(protocol: &Protocol, state: &mut State, job: u8) -> Client {
    match protocol.doors[job as usize] {
        Door::Producer if state.persist(job, Parcel::Publishing) => {
            Client::Promised { late: false }
        }
        Door::Sql => {
            state.persist(job, Parcel::Waiting);
            Client::Done
        }
        Door::Producer | Door::Shut => Client::Done,
    }
}

/// The XADD of a promised parcel. If Redis is out of reach the promise stays, and reconcile finds it.
pub(crate) fn add(protocol: &Protocol, state: &mut State, hint: Hint) {
    if state.redis.down {
        return;
    }
    if state.redis.entries.len() >= protocol.window {
        return state.put_off(hint);
    }
    state.redis.add(Entry::original(hint), Place::Unread);
    if protocol.variant.reconcile_only_unpublished {
        state.postgres.mark_parcel(hint, Parcel::Published);
    }
}

impl State {
    /// No room: nothing was added, so the parcel waits for dispatch again.
    pub(crate) fn put_off(&mut self, hint: Hint) {
        if self.postgres.parcel(hint) == Some(Parcel::Publishing) {
            self.postgres.put_parcel(hint, Parcel::Waiting);
        }
    }
}
