//! The duties, each cut where its process can die or stand still: between what it saw and what it does about it.
//!
//! Duty processes are never hurried: any number of steps of others fit between two of theirs. A look that would find nothing to do
//! is left out, so that every path comes to an end.

use super::{
    producer::add,
    rules::{Fault, Protocol, Step},
    state::{
        DUTIES, Duty, Entry, Hint, Owner, Parcel, Phase, Place, Row, RowState, State, WORKERS,
    },
};

pub(crate) fn steps(protocol: &Protocol, state: &State, out: &mut Vec<Step>) {
    let busy = state
        .duties
        .iter()
        .filter(|duty| **duty != Duty::Idle)
        .count();
    for d in 0..DUTIES as u8 {
        match &state.duties[d as usize] {
            // Idle ones are the same, and sorted first.
            Duty::Idle if d == 0 && busy < protocol.duties => looks(protocol, state, d, out),
            Duty::Idle => {}
            Duty::Publish { .. } => out.push(Step::Add(d)),
            // Half a second later: whoever was in the first 200 ms of a missing job has settled or leased it, unless frozen.
            Duty::Listed { busy, .. } => {
                let waiting = busy
                    .iter()
                    .any(|(worker, hint)| state.is_busy(*worker, *hint));
                if !waiting || protocol.variant.reconcile_does_not_wait {
                    out.push(Step::Ask(d));
                }
            }
            Duty::Asked { .. } => out.push(Step::Rehand(d)),
            Duty::Abandoned { .. } if protocol.variant.takeover_keeps_epoch => {
                let awake = (0..WORKERS as u8).filter(|w| !state.workers[*w as usize].frozen);
                out.extend(awake.map(|to| Step::Redeliver { duty: d, to }));
            }
            Duty::Abandoned { .. } => out.push(Step::TakeOver(d)),
            Duty::Acks(_) => out.push(Step::AckAll(d)),
            Duty::Condemned(_) => out.push(Step::Rescue(d)),
        }
    }
}

fn looks(protocol: &Protocol, state: &State, d: u8, out: &mut Vec<Step>) {
    if !state.redis.down {
        let waiting = state
            .postgres
            .parcels
            .iter()
            .filter(|(_, parcel)| *parcel == Parcel::Waiting);
        let waiting = waiting.filter(|_| state.redis.entries.len() < protocol.window);
        out.extend(waiting.map(|(hint, _)| Step::Dispatch(d, *hint)));
        let (missing, skipped) = compare(protocol, state);
        if !missing.is_empty() || !skipped.is_empty() {
            out.push(Step::List(d));
        }
        let abandoned = state
            .redis
            .pending()
            .filter(|(entry, owner)| is_abandoned(state, *entry, *owner));
        out.extend(abandoned.map(|(entry, _)| Step::LookAtPending(d, entry)));
    }
    let running = |owner| {
        let mut rows = (0u8..).zip(state.postgres.rows);
        rows.any(|(job, row)| {
            row.is_some_and(|row| {
                row.state == RowState::Running(owner)
                    && state.is_known_to_all(Hint {
                        job,
                        epoch: row.epoch,
                    })
            })
        })
    };
    if running(Owner::Dead) {
        out.push(Step::LookAtBeats {
            duty: d,
            dead: true,
            worker: 0,
        });
    }
    let silent = (0..WORKERS as u8)
        .filter(|w| state.workers[*w as usize].frozen && running(Owner::Worker(*w)));
    out.extend(silent.map(|worker| Step::LookAtBeats {
        duty: d,
        dead: false,
        worker,
    }));
    out.extend(orphans(state).map(|hint| Step::LookForOrphan(d, hint)));
}

/// An entry leaves the pending list within 200 ms, unless its owner is dead, frozen, or does not know of it.
fn is_abandoned(state: &State, entry: Entry, owner: Owner) -> bool {
    if !state.is_known_to_all(entry.hint) {
        return false;
    }
    let Owner::Worker(w) = owner else { return true };
    let worker = &state.workers[w as usize];
    let hold = worker.holds[entry.hint.job as usize];
    worker.frozen
        || !(worker.has_read(entry)
            || hold.is_some_and(|hold| hold.phase == Phase::Fresh && hold.entry == Some(entry))
            || worker.after.iter().any(|after| after.entry == entry))
}

/// Available and in no parcel.
fn orphans(state: &State) -> impl Iterator<Item = Hint> {
    let rows = state.postgres.rows.iter().zip(0u8..);
    rows.filter_map(|(row, job)| {
        let row = row.filter(|row| row.state == RowState::Available)?;
        let listed = state
            .postgres
            .parcels
            .iter()
            .any(|(hint, _)| hint.job == job);
        (!listed).then_some(Hint {
            job,
            epoch: row.epoch,
        })
    })
}

/// The jobs of doubtful parcels that the stream does not hold, and entries that nobody will ever read.
fn compare(protocol: &Protocol, state: &State) -> (Vec<Hint>, Vec<Entry>) {
    let doubtful = state
        .postgres
        .parcels
        .iter()
        .filter(|(hint, parcel)| *parcel == Parcel::Publishing && state.is_doubtful(*hint));
    let doubtful: Vec<Hint> = doubtful.map(|(hint, _)| *hint).collect();
    if doubtful.is_empty() && !protocol.mends.reconcile_lists_all_streams {
        return (Vec::new(), Vec::new());
    }
    let counts =
        |place: Place| place != Place::Skipped || protocol.variant.reconcile_trusts_the_listing;
    let present = |hint: &Hint| {
        state
            .redis
            .entries
            .iter()
            .any(|(entry, place)| entry.hint == *hint && counts(*place))
    };
    let missing = doubtful.into_iter().filter(|hint| !present(hint)).collect();
    let skipped = if protocol.variant.reconcile_trusts_the_listing {
        Vec::new()
    } else {
        state.redis.in_place(Place::Skipped).collect()
    };
    (missing, skipped)
}

pub(crate) fn faults(state: &State, out: &mut Vec<Step>) {
    for d in 0..DUTIES as u8 {
        let duty = &state.duties[d as usize];
        if state.may(Fault::Dropped) && *duty != Duty::Idle {
            out.push(Step::DutyDies(d));
        }
        if let Duty::Publish { late, .. } = duty {
            if state.may(Fault::Refused) {
                out.push(Step::AddRefused(d));
            }
            if state.may(Fault::Late) && !late {
                out.push(Step::PublisherLate(d));
            }
        }
    }
}

pub(crate) fn apply(protocol: &Protocol, state: &mut State, step: Step) {
    let (d, next) = match step {
        Step::Dispatch(d, hint) => {
            state.postgres.put_parcel(hint, Parcel::Publishing);
            (d, Duty::Publish { hint, late: false })
        }
        Step::List(d) => (d, list(protocol, state)),
        Step::LookAtPending(d, entry) => {
            let alive = state
                .redis
                .pending()
                .any(|(other, owner)| other == entry && is_awake(state, owner));
            (
                d,
                Duty::Abandoned {
                    entry,
                    crashed: !alive && !protocol.variant.takeover_misses_crashes,
                },
            )
        }
        Step::LookAtBeats { duty, dead, worker } => (
            duty,
            Duty::Condemned(if dead {
                Owner::Dead
            } else {
                Owner::Worker(worker)
            }),
        ),
        Step::LookForOrphan(d, hint) => (
            d,
            Duty::Asked {
                lost: vec![hint],
                over: Vec::new(),
                skipped: Vec::new(),
            },
        ),
        Step::Redeliver { duty, to } => {
            if let Duty::Abandoned { entry, .. } = state.duties[duty as usize]
                && state.redis.has(entry)
            {
                state.redis.place(entry, Place::Pending(Owner::Worker(to)));
                state.give(to, entry);
            }
            (duty, Duty::Idle)
        }
        Step::PublisherLate(d) => (d, late(state, d)),
        Step::AddRefused(d) => {
            state.spend(Fault::Refused);
            if let Duty::Publish { hint, .. } = state.duties[d as usize] {
                state.put_off(hint);
            }
            (d, Duty::Idle)
        }
        Step::DutyDies(d) => {
            state.spend(Fault::Dropped);
            (d, Duty::Idle)
        }
        Step::Add(d)
        | Step::Ask(d)
        | Step::Rehand(d)
        | Step::TakeOver(d)
        | Step::AckAll(d)
        | Step::Rescue(d) => (d, act(protocol, state, d)),
        other => unreachable!("not a duty's step: {other:?}"),
    };
    state.duties[d as usize] = next;
}

fn is_awake(state: &State, owner: Owner) -> bool {
    matches!(owner, Owner::Worker(w) if !state.workers[w as usize].frozen)
}

fn list(protocol: &Protocol, state: &State) -> Duty {
    let (missing, skipped) = compare(protocol, state);
    let pairs = (0..WORKERS as u8).flat_map(|w| missing.iter().map(move |hint| (w, *hint)));
    let busy = pairs.filter(|(w, hint)| state.is_busy(*w, *hint)).collect();
    Duty::Listed {
        missing,
        skipped,
        busy,
    }
}

fn late(state: &mut State, d: u8) -> Duty {
    state.spend(Fault::Late);
    let Duty::Publish { hint, .. } = state.duties[d as usize] else {
        return Duty::Idle;
    };
    state.ghosts[hint.job as usize].late = true;
    Duty::Publish { hint, late: true }
}

/// The second half of a duty: acts on what it saw, however long ago that was.
fn act(protocol: &Protocol, state: &mut State, d: u8) -> Duty {
    match std::mem::replace(&mut state.duties[d as usize], Duty::Idle) {
        Duty::Publish { hint, .. } => add(protocol, state, hint),
        Duty::Listed {
            missing, skipped, ..
        } => {
            let lost = missing
                .iter()
                .copied()
                .filter(|hint| {
                    state
                        .row(hint.job)
                        .is_some_and(|row| row.is_available(hint.epoch))
                })
                .collect();
            return Duty::Asked {
                lost,
                over: missing,
                skipped,
            };
        }
        Duty::Asked {
            lost,
            over,
            skipped,
        } => {
            for hint in lost {
                state.rehand_lost(protocol, hint);
            }
            // A parcel with nothing in the stream has nothing left.
            for hint in over {
                if state.postgres.parcel(hint) != Some(Parcel::Waiting) {
                    state.postgres.drop_parcel(hint);
                }
            }
            return acks(skipped);
        }
        Duty::Abandoned { entry, crashed } if state.redis.has(entry) && !state.redis.down => {
            // Only what is still available: leased jobs have a worker that answers for them.
            if state
                .row(entry.hint.job)
                .is_some_and(|row| row.is_available(entry.hint.epoch))
            {
                let counted = crashed && state.row(entry.hint.job).is_some_and(Row::counts_crash);
                state.rehand(protocol, entry.hint, counted);
            }
            return acks(vec![entry]);
        }
        Duty::Acks(entries) => entries
            .into_iter()
            .for_each(|entry| state.redis.remove(entry)),
        Duty::Condemned(owner) if protocol.mends.rescue_asks_again && is_awake(state, owner) => {}
        Duty::Condemned(owner) => rescue(protocol, state, owner),
        Duty::Abandoned { .. } | Duty::Idle => {}
    }
    Duty::Idle
}

fn acks(entries: Vec<Entry>) -> Duty {
    if entries.is_empty() {
        Duty::Idle
    } else {
        Duty::Acks(entries)
    }
}

fn rescue(protocol: &Protocol, state: &mut State, owner: Owner) {
    let left = |row: &Row| row.state == RowState::Running(owner);
    for (job, row) in (0u8..).zip(state.postgres.rows) {
        if let Some(row) = row.filter(left) {
            state.rehand(
                protocol,
                Hint {
                    job,
                    epoch: row.epoch,
                },
                row.counts_crash() || protocol.variant.rescue_charges_all,
            );
        }
    }
}

/// Whoever has seen a worker that has died since has seen a dead one.
pub(crate) fn owner_died(state: &mut State, owner: Owner) {
    for duty in &mut state.duties {
        if *duty == Duty::Condemned(owner) {
            *duty = Duty::Condemned(Owner::Dead);
        }
    }
}
