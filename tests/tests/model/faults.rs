//! What can happen to Redis, and the budgets of all faults.

use super::{
    rules::{Fault, Step},
    state::{Copy, Entry, Hint, JOBS, Owner, Place, State},
};

impl State {
    pub(crate) fn may(&self, fault: Fault) -> bool {
        self.faults_in_all > 0 && self.faults[fault as usize] > 0
    }

    pub(crate) fn spend(&mut self, fault: Fault) {
        self.faults[fault as usize] -= 1;
        self.faults_in_all -= 1;
        if self.faults_in_all == 0 {
            // What is left of single budgets means nothing any more.
            self.faults = Default::default();
        }
    }

    fn tampered(&mut self, job: u8) {
        self.ghosts[job as usize].tampered = true;
    }
}

pub(crate) fn faults(state: &State, out: &mut Vec<Step>) {
    let entries = || state.redis.entries.iter().map(|(entry, _)| *entry);
    let some = |fault| state.may(fault) && !state.redis.entries.is_empty();
    if state.may(Fault::Lose) {
        out.extend(entries().map(Step::Lose));
    }
    if some(Fault::Flush) {
        out.push(Step::Flush);
    }
    if state.may(Fault::Repeat) {
        out.extend(
            entries()
                .filter(|entry| entry.copy == Copy::Original)
                .map(Step::RepeatEntry),
        );
    }
    if state.may(Fault::Forge) {
        out.extend(
            forgeries(state)
                .filter(|entry| !state.redis.has(*entry))
                .map(Step::Forge),
        );
    }
    if state.may(Fault::Resurrect) {
        let gone = old_entries(state).filter(|entry| !state.redis.has(*entry));
        out.extend(
            gone.flat_map(|entry| [true, false].map(|pending| Step::Resurrect { entry, pending })),
        );
    }
    if some(Fault::Ungroup) && state.redis.group {
        out.push(Step::Ungroup);
    }
    if state.may(Fault::SkipAhead)
        && state.redis.group
        && state.redis.in_place(Place::Unread).next().is_some()
    {
        out.push(Step::SkipAhead);
    }
    if state.may(Fault::Unpend) {
        out.extend(state.redis.pending().map(|(entry, _)| Step::Unpend(entry)));
    }
    if state.may(Fault::Outage) && !state.redis.down {
        out.push(Step::RedisDown);
    }
}

/// Real and invented jobs, at this epoch and the next, with their own parcel's number and another's.
fn forgeries(state: &State) -> impl Iterator<Item = Entry> {
    let now = |job: u8| Hint {
        job,
        epoch: state.row(job).map_or(0, |row| row.epoch),
    };
    (0..JOBS as u8).flat_map(move |job| {
        let hints = [
            now(job),
            Hint {
                epoch: now(job).epoch + 1,
                ..now(job)
            },
        ];
        hints.into_iter().flat_map(move |hint| {
            [hint, now(1 - job)].map(|parcel| Entry {
                hint,
                parcel,
                copy: Copy::Forged,
            })
        })
    })
}

/// Entries of all epochs so far, as an old copy may still hold them.
fn old_entries(state: &State) -> impl Iterator<Item = Entry> {
    let rows = state
        .postgres
        .rows
        .iter()
        .zip(0u8..)
        .filter_map(|(row, job)| row.map(|row| (job, row.epoch)));
    rows.flat_map(|(job, now)| (0..=now).map(move |epoch| Entry::original(Hint { job, epoch })))
}

pub(crate) fn apply(state: &mut State, step: Step) {
    match step {
        Step::Lose(entry) => {
            state.spend(Fault::Lose);
            state.redis.remove(entry);
        }
        Step::Flush => {
            state.spend(Fault::Flush);
            state.redis.entries.clear();
            state.redis.group = false;
        }
        Step::RepeatEntry(_) | Step::Forge(_) | Step::Resurrect { .. } => lie(state, step),
        Step::Ungroup => {
            state.spend(Fault::Ungroup);
            let read = state
                .redis
                .entries
                .iter()
                .filter(|(_, place)| *place != Place::Unread);
            let read: Vec<u8> = read.map(|(entry, _)| entry.hint.job).collect();
            for job in read {
                state.tampered(job);
            }
            state.redis.group = false;
            state.redis.place_all(|_| Place::Unread);
        }
        Step::SkipAhead => {
            state.spend(Fault::SkipAhead);
            state.redis.place_all(|place| {
                if place == Place::Unread {
                    Place::Skipped
                } else {
                    place
                }
            });
        }
        Step::Unpend(entry) => {
            state.spend(Fault::Unpend);
            state.redis.place(entry, Place::Skipped);
        }
        Step::RedisDown => {
            state.spend(Fault::Outage);
            state.redis.down = true;
        }
        Step::RedisUp => state.redis.down = false,
        other => unreachable!("nothing that happens to Redis: {other:?}"),
    }
}

/// Entries that nobody has published, or not now.
fn lie(state: &mut State, step: Step) {
    match step {
        Step::RepeatEntry(entry) => {
            state.spend(Fault::Repeat);
            state.tampered(entry.hint.job);
            state.redis.add(
                Entry {
                    copy: Copy::Repeated,
                    ..entry
                },
                Place::Unread,
            );
        }
        Step::Forge(entry) => {
            state.spend(Fault::Forge);
            state.tampered(entry.hint.job);
            state.tampered(entry.parcel.job);
            state.redis.add(entry, Place::Unread);
        }
        Step::Resurrect { entry, pending } => {
            state.spend(Fault::Resurrect);
            state.tampered(entry.hint.job);
            state.redis.add(
                entry,
                if pending {
                    Place::Pending(Owner::Worker(0))
                } else {
                    Place::Unread
                },
            );
        }
        other => unreachable!("no lie: {other:?}"),
    }
}
