//! A worker: read, claim, lease, settle, acknowledge, and what its heartbeat and its reader put right.
//!
//! A frozen worker takes no step, and acts on what it knew when it thaws. Timing: a worker that is not frozen settles or leases
//! a job within 200 ms of claiming it; the steps of others that rest on this say so.

use super::{
    invariants::Broken,
    rules::{Fault, Protocol, Step},
    state::{
        After, Entry, Hint, Hold, JOBS, Owner, Parcel, Phase, Place, RowState, State, WORKERS,
        Worker,
    },
};

pub(crate) fn steps(protocol: &Protocol, state: &State, out: &mut Vec<Step>) {
    for w in 0..WORKERS as u8 {
        let worker = &state.workers[w as usize];
        if worker.frozen {
            out.push(Step::Thaw(w));
            continue;
        }
        if !state.redis.down && !state.redis.group {
            out.push(Step::MakeGroup(w));
        }
        if state.redis.is_readable() && in_hand(worker) < protocol.slots {
            out.extend(
                state
                    .redis
                    .in_place(Place::Unread)
                    .map(|entry| Step::Read(w, entry)),
            );
        }
        if !state.redis.down {
            let orphans = state
                .redis
                .pending()
                .filter(|(entry, owner)| *owner == Owner::Worker(w) && !knows(worker, *entry));
            out.extend(orphans.map(|(entry, _)| Step::ReturnOwnPending(w, entry)));
        }
        out.extend(worker.read.iter().map(|(entry, _)| Step::Claim(w, *entry)));
        out.extend(
            worker
                .after
                .iter()
                .map(|after| Step::Conclude(w, after.entry)),
        );
        for job in 0..JOBS as u8 {
            job_steps(state, w, job, out);
        }
        if state.redis.down {
            let open =
                state.postgres.parcels.iter().filter(|(hint, parcel)| {
                    *parcel == Parcel::Waiting || state.is_doubtful(*hint)
                });
            out.extend(open.map(|(hint, _)| Step::ClaimDirectly(w, *hint)));
        }
    }
}

fn job_steps(state: &State, w: u8, job: u8, out: &mut Vec<Step>) {
    let row = state.row(job);
    let leased_here = row
        .filter(|row| row.state == RowState::Running(Owner::Worker(w)))
        .map(|row| row.epoch);
    let hold = state.workers[w as usize].holds[job as usize];
    match hold {
        Some(Hold {
            phase: Phase::Fresh,
            waits,
            ..
        }) => {
            out.push(Step::Lease {
                worker: w,
                job,
                answered: true,
            });
            out.extend((!waits).then_some(Step::Settle {
                worker: w,
                job,
                answered: true,
            }));
        }
        Some(hold) if hold.waits => {
            out.extend(
                (leased_here == Some(hold.epoch)).then_some(Step::StartChild { worker: w, job }),
            );
        }
        Some(_) => out.push(Step::Settle {
            worker: w,
            job,
            answered: true,
        }),
        None => {}
    }
    if hold.is_some_and(|hold| hold.phase == Phase::Leased && leased_here != Some(hold.epoch)) {
        out.push(Step::BeatStopsLostRun { worker: w, job });
    }
    // Two beats apart: a run of an older epoch has been stopped by then.
    if leased_here.is_some() && hold.is_none() {
        out.push(Step::BeatReturnsLease { worker: w, job });
    }
}

/// Capacity first: only what fits is read.
fn in_hand(worker: &Worker) -> usize {
    worker.read.len() + worker.holds.iter().flatten().count()
}

/// Whether an entry that is pending with this worker is on its mind.
fn knows(worker: &Worker, entry: Entry) -> bool {
    worker.has_read(entry)
        || worker.holds[entry.hint.job as usize].is_some()
        || worker.after.iter().any(|after| after.entry == entry)
}

pub(crate) fn faults(state: &State, out: &mut Vec<Step>) {
    for w in 0..WORKERS as u8 {
        let worker = &state.workers[w as usize];
        let idle = worker.read.is_empty()
            && worker.after.is_empty()
            && worker.holds.iter().all(Option::is_none);
        if state.may(Fault::Crash) && !idle {
            out.push(Step::Crash(w));
        }
        if worker.frozen {
            continue;
        }
        if state.may(Fault::Freeze) {
            out.push(Step::Freeze(w));
        }
        if state.may(Fault::ReplyLost) && state.redis.is_readable() {
            out.extend(
                state
                    .redis
                    .in_place(Place::Unread)
                    .map(|entry| Step::ReplyLost(w, entry)),
            );
        }
        if state.may(Fault::AckTorn) && !state.redis.down {
            out.extend(
                worker
                    .after
                    .iter()
                    .map(|after| Step::AckTorn(w, after.entry)),
            );
        }
        if state.may(Fault::Unknown) {
            for job in 0..JOBS as u8 {
                if let Some(hold) = worker.holds[job as usize] {
                    out.extend((!hold.waits).then_some(Step::Settle {
                        worker: w,
                        job,
                        answered: false,
                    }));
                    out.extend((hold.phase == Phase::Fresh).then_some(Step::Lease {
                        worker: w,
                        job,
                        answered: false,
                    }));
                }
            }
        }
    }
}

pub(crate) fn apply(protocol: &Protocol, state: &mut State, step: Step) {
    match step {
        Step::MakeGroup(_) => {
            state.redis.group = true;
            if protocol.variant.group_at_dollar {
                state.redis.place_all(|_| Place::Skipped);
            }
        }
        Step::Read(w, entry) => {
            state.redis.place(entry, Place::Pending(Owner::Worker(w)));
            state.give(w, entry);
        }
        Step::Claim(w, entry) => claim(protocol, state, w, entry),
        Step::Lease {
            worker,
            job,
            answered,
        } => lease(state, worker, job, answered),
        Step::StartChild { worker, job } => {
            state.mark_started(job);
            begin(protocol, state, worker, job);
        }
        Step::Settle {
            worker,
            job,
            answered,
        } => settle(protocol, state, worker, job, answered),
        Step::Conclude(w, entry) => {
            conclude(state, w, entry);
            state.redis.remove(entry);
        }
        Step::ReturnOwnPending(w, entry) => {
            state.rehand_lost(protocol, entry.hint);
            later(&mut state.workers[w as usize], entry, false);
        }
        Step::BeatStopsLostRun { worker, job } => {
            state.workers[worker as usize].holds[job as usize] = None;
        }
        Step::BeatReturnsLease { job, .. } => {
            let epoch = state.row(job).map_or(0, |row| row.epoch);
            state.rehand(protocol, Hint { job, epoch }, false);
        }
        Step::ClaimDirectly(w, hint) => claim_directly(protocol, state, w, hint),
        other => suffer(protocol, state, other),
    }
}

/// What happens to a worker, or to its answers.
fn suffer(protocol: &Protocol, state: &mut State, step: Step) {
    match step {
        Step::Crash(w) => crash(protocol, state, w),
        Step::Freeze(w) => {
            state.spend(Fault::Freeze);
            let worker = &mut state.workers[w as usize];
            worker.frozen = true;
            worker
                .read
                .iter_mut()
                .for_each(|(_, was_frozen)| *was_frozen = true);
            worker
                .holds
                .iter_mut()
                .flatten()
                .for_each(|hold| hold.was_frozen = true);
        }
        Step::Thaw(w) => {
            let worker = &mut state.workers[w as usize];
            (worker.frozen, worker.thawed) = (false, true);
        }
        Step::ReplyLost(w, entry) => {
            state.spend(Fault::ReplyLost);
            state.redis.place(entry, Place::Pending(Owner::Worker(w)));
        }
        Step::AckTorn(w, entry) => {
            state.spend(Fault::AckTorn);
            conclude(state, w, entry);
            state.redis.place(entry, Place::Skipped);
        }
        other => unreachable!("not a worker's step: {other:?}"),
    }
}

/// One SELECT: what is available at the hinted epoch is taken, everything else was a stale hint.
fn claim(protocol: &Protocol, state: &mut State, w: u8, entry: Entry) {
    let read = &mut state.workers[w as usize].read;
    let was_frozen = read.contains(&(entry, true));
    read.retain(|(other, _)| *other != entry);
    let Hint { job, epoch } = entry.hint;
    let available = state.row(job).is_some_and(|row| row.is_available(epoch))
        || protocol.variant.claim_without_asking;
    // In hand already: a repeated entry, or an older epoch that this worker does not know to be lost. Reconcile has the job.
    let in_hand = state.workers[w as usize].holds[job as usize].is_some();
    if !available || in_hand {
        return later(&mut state.workers[w as usize], entry, false);
    }
    let claimed = 1 << epoch;
    let ghost = &mut state.ghosts[job as usize];
    let again = ghost.claimed & claimed != 0 && !ghost.tampered;
    ghost.claimed |= claimed;
    if again {
        state.breaks(Broken::EpochClaimedTwice);
    }
    let early = protocol.variant.ack_at_claim;
    if early {
        later(&mut state.workers[w as usize], entry, false);
    }
    take(
        protocol,
        state,
        w,
        job,
        Hold {
            epoch,
            entry: (!early).then_some(entry),
            phase: Phase::Fresh,
            was_frozen,
            waits: true,
        },
    );
}

/// From the parcels, while Redis is out of reach: leased from the start, at a new epoch.
fn claim_directly(protocol: &Protocol, state: &mut State, w: u8, hint: Hint) {
    state.postgres.drop_parcel(hint);
    let granted = state.lease_anew(hint, RowState::Running(Owner::Worker(w)));
    // In hand at an older epoch: the heartbeat gives this lease back.
    if granted && state.workers[w as usize].holds[hint.job as usize].is_none() {
        take(
            protocol,
            state,
            w,
            hint.job,
            Hold {
                epoch: hint.epoch + 1,
                entry: None,
                phase: Phase::Leased,
                was_frozen: false,
                waits: true,
            },
        );
    }
}

/// In hand. A job that has crashed waits; the handler of any other begins.
fn take(protocol: &Protocol, state: &mut State, w: u8, job: u8, hold: Hold) {
    state.workers[w as usize].holds[job as usize] = Some(hold);
    if state.row(job).is_none_or(|row| row.crashes == 0) {
        begin(protocol, state, w, job);
    }
}

fn begin(protocol: &Protocol, state: &mut State, w: u8, job: u8) {
    if state.row(job).is_none() {
        state.breaks(Broken::Phantom);
    }
    let Some(hold) = &mut state.workers[w as usize].holds[job as usize] else {
        return;
    };
    hold.waits = false;
    let (begins, other) = (*hold, 1 - w as usize);
    if let Some(running) = state.workers[other].holds[job as usize].filter(|hold| !hold.waits) {
        let broken = state.judge_overlap(
            protocol.mends,
            job,
            &begins,
            &running,
            state.workers[other].thawed,
        );
        if let Some(broken) = broken {
            state.breaks(broken);
        }
    }
}

fn lease(state: &mut State, w: u8, job: u8, answered: bool) {
    let Some(hold) = state.workers[w as usize].holds[job as usize] else {
        return;
    };
    let granted = state.lease(job, hold.epoch, RowState::Running(Owner::Worker(w)));
    if !answered {
        return state.spend(Fault::Unknown);
    }
    let worker = &mut state.workers[w as usize];
    worker.holds[job as usize] = granted.then_some(Hold {
        phase: Phase::Leased,
        entry: None,
        ..hold
    });
    if let Some(entry) = hold.entry {
        later(worker, entry, granted);
    }
}

fn settle(protocol: &Protocol, state: &mut State, w: u8, job: u8, answered: bool) {
    let Some(hold) = state.workers[w as usize].holds[job as usize] else {
        return;
    };
    let accepted = state.settle(protocol.variant, job, hold);
    if !answered {
        return state.spend(Fault::Unknown);
    }
    let worker = &mut state.workers[w as usize];
    worker.holds[job as usize] = None;
    if let Some(entry) = hold.entry {
        later(worker, entry, accepted);
    }
}

fn crash(protocol: &Protocol, state: &mut State, w: u8) {
    state.spend(Fault::Crash);
    if protocol.counts_kills {
        for job in 0..JOBS {
            let open = state.postgres.rows[job].is_some_and(|row| !row.is_final());
            let ran = state.workers[w as usize].holds[job].is_some_and(|hold| !hold.waits);
            state.ghosts[job].kills += u8::from(open && ran);
        }
    }
    state.workers[w as usize] = Worker::default();
    let owner = Owner::Worker(w);
    state.redis.place_all(|place| {
        if place == Place::Pending(owner) {
            Place::Pending(Owner::Dead)
        } else {
            place
        }
    });
    for row in state
        .postgres
        .rows
        .iter_mut()
        .flatten()
        .filter(|row| row.state == RowState::Running(owner))
    {
        row.state = RowState::Running(Owner::Dead);
    }
    super::duties::owner_died(state, owner);
}

/// The entry is not needed any more: to be acknowledged, and counted if this worker moved its job.
fn later(worker: &mut Worker, entry: Entry, count: bool) {
    worker.after.push(After { entry, count });
    worker.after.sort_unstable();
    worker.after.dedup();
}

/// After COMMIT: the parcel whose job this worker moved is complete.
fn conclude(state: &mut State, w: u8, entry: Entry) {
    let after = &mut state.workers[w as usize].after;
    let counts = after
        .iter()
        .any(|after| after.entry == entry && after.count);
    after.retain(|after| after.entry != entry);
    if counts {
        state.postgres.drop_parcel(entry.parcel);
    }
}

impl State {
    pub(crate) fn give(&mut self, w: u8, entry: Entry) {
        let read = &mut self.workers[w as usize].read;
        read.retain(|(other, _)| *other != entry);
        read.push((entry, false));
        read.sort_unstable();
    }
}
