//! The invariants, by name. Those about steps are watched where the step is taken and leave a bit in the state.

use stateright::Property;

use super::{
    machine::Machine,
    rules::Mends,
    state::{Duty, Hold, Owner, Phase, Place, RowState, State},
};

pub(crate) const DRIVEN: &str = "I1 a job that is not final has a driver";
pub(crate) const COMES_TO_AN_END: &str = "I1 no job is handed out for ever";
pub(crate) const NO_PHANTOM: &str = "I2 nothing runs that Postgres does not hold";
pub(crate) const ONE_OUTCOME: &str = "I3 a job has one accepted outcome";
pub(crate) const EPOCH_GROWS: &str = "I4 an epoch only grows";
pub(crate) const CURRENT_EPOCH: &str = "I4 an outcome is accepted only at the current epoch";
pub(crate) const CLAIMED_ONCE: &str =
    "I4 no epoch is claimed twice unless an entry was tampered with";
pub(crate) const OVERLAP: &str =
    "I5 two runs overlap only after a freeze, or in the first 200 ms after tampering";
pub(crate) const CRASHES: &str = "I6 no job is charged with, or kills, more workers than it may";
pub(crate) const FINAL: &str = "I7 what is final stays as it is";
pub(crate) const STREAM_EMPTY: &str = "I8 at rest the stream is empty";
pub(crate) const POSTGRES_EMPTY: &str = "I8 at rest no parcel and no lease is left";

/// Epochs that the budgets of faults can use up: more would be a job that is handed out again and again.
const EPOCHS_MAX: u8 = 8;

/// A step broke an invariant, or is one of the overlaps that are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Phantom,
    TwoOutcomes,
    StaleAccepted,
    EpochFell,
    EpochClaimedTwice,
    FinalChanged,
    Overlap,
    OverlapFrozen,
    OverlapTampered,
    OverlapLate,
    OverlapOutage,
    OverlapThawed,
    OverlapSeized,
}

fn holds(broken: Broken) -> impl Fn(&State) -> bool {
    move |state| state.broken & (1 << broken as u16) == 0
}

pub(crate) fn properties() -> Vec<Property<Machine>> {
    let mut all = vec![
        Property::<Machine>::always(DRIVEN, |machine, state| {
            all_final(state) || machine.is_driven(state)
        }),
        Property::<Machine>::always(COMES_TO_AN_END, |_, state| {
            state
                .postgres
                .rows
                .iter()
                .flatten()
                .all(|row| row.epoch <= EPOCHS_MAX)
        }),
        Property::<Machine>::always(NO_PHANTOM, |_, state| holds(Broken::Phantom)(state)),
        Property::<Machine>::always(ONE_OUTCOME, |_, state| holds(Broken::TwoOutcomes)(state)),
        Property::<Machine>::always(EPOCH_GROWS, |_, state| holds(Broken::EpochFell)(state)),
        Property::<Machine>::always(CURRENT_EPOCH, |_, state| {
            holds(Broken::StaleAccepted)(state)
        }),
        Property::<Machine>::always(CLAIMED_ONCE, |_, state| {
            holds(Broken::EpochClaimedTwice)(state)
        }),
        Property::<Machine>::always(OVERLAP, |_, state| holds(Broken::Overlap)(state)),
        Property::<Machine>::always(CRASHES, |machine, state| {
            let charged = state
                .postgres
                .rows
                .iter()
                .flatten()
                .all(|row| row.crashes <= machine.protocol.crashes_max);
            // What has not started is charged with one crash at most.
            let innocent = !machine.protocol.counts_kills
                || (state.postgres.rows.iter().zip(state.ghosts))
                    .all(|(row, ghost)| row.is_none_or(|row| row.crashes <= ghost.kills + 1));
            charged
                && innocent
                && state
                    .ghosts
                    .iter()
                    .all(|ghost| ghost.kills <= machine.protocol.crashes_max)
        }),
        Property::<Machine>::always(FINAL, |_, state| holds(Broken::FinalChanged)(state)),
        Property::<Machine>::always(STREAM_EMPTY, |machine, state| {
            let left = |place: Place| {
                place != Place::Skipped || machine.protocol.mends.reconcile_lists_all_streams
            };
            !state.redis.entries.iter().any(|(_, place)| left(*place)) || !machine.is_at_rest(state)
        }),
        Property::<Machine>::always(POSTGRES_EMPTY, |machine, state| {
            let leased = state
                .postgres
                .rows
                .iter()
                .flatten()
                .any(|row| matches!(row.state, RowState::Running(_)));
            (state.postgres.parcels.is_empty() && !leased) || !machine.is_at_rest(state)
        }),
    ];
    all.extend(interesting());
    all
}

fn all_final(state: &State) -> bool {
    state
        .postgres
        .rows
        .iter()
        .flatten()
        .all(|row| row.is_final())
}

pub(crate) const COMPLETED: &str = "all jobs complete";
pub(crate) const REHANDED: &str = "a job completes at a later epoch";
pub(crate) const STALE_RUN: &str = "a run goes on at an epoch that is over";
pub(crate) const DEAD: &str = "a job that kills workers is dead";
pub(crate) const DEAD_LEASE: &str = "a dead worker leaves a lease";
pub(crate) const LATE_XADD: &str = "an entry is added after its job was handed out again";
pub(crate) const SAME_LOSS_SEEN_TWICE: &str = "two processes reconcile the same loss";
pub(crate) const PHANTOM_HINT: &str = "the stream hints at a job that Postgres does not hold";
pub(crate) const UNREAD_LEFT: &str = "at rest an entry is left that nobody will read";
pub(crate) const OVERLAP_FROZEN: &str = "runs overlap after a freeze";
pub(crate) const OVERLAP_TAMPERED: &str = "runs overlap after tampering";
pub(crate) const OVERLAP_LATE: &str = "runs overlap after a late publisher";
pub(crate) const OVERLAP_OUTAGE: &str = "runs overlap when Redis goes away";
pub(crate) const OVERLAP_SEIZED: &str =
    "runs overlap after a leased job was re-handed on the word of an entry";
pub(crate) const OVERLAP_THAWED: &str = "runs overlap after a slow rescue of a thawed worker";

/// What must be reached for the invariants to mean something. Each configuration says which of these it reaches.
fn interesting() -> Vec<Property<Machine>> {
    vec![
        Property::<Machine>::sometimes(COMPLETED, |machine, state| {
            machine.jobs().all(|job| {
                state
                    .row(job)
                    .is_some_and(|row| row.state == RowState::Completed)
            })
        }),
        Property::<Machine>::sometimes(REHANDED, |_, state| {
            state
                .postgres
                .rows
                .iter()
                .flatten()
                .any(|row| row.state == RowState::Completed && row.epoch > 0)
        }),
        Property::<Machine>::sometimes(STALE_RUN, |_, state| {
            let stale = |(job, hold): (u8, &Option<Hold>)| {
                hold.is_some_and(|hold| state.row(job).is_some_and(|row| row.epoch > hold.epoch))
            };
            state
                .workers
                .iter()
                .any(|worker| !worker.frozen && (0u8..).zip(&worker.holds).any(stale))
        }),
        Property::<Machine>::sometimes(DEAD, |_, state| {
            state
                .postgres
                .rows
                .iter()
                .flatten()
                .any(|row| row.state == RowState::Dead)
        }),
        Property::<Machine>::sometimes(DEAD_LEASE, |_, state| {
            state
                .postgres
                .rows
                .iter()
                .flatten()
                .any(|row| row.state == RowState::Running(Owner::Dead))
        }),
        Property::<Machine>::sometimes(LATE_XADD, |_, state| {
            state.redis.entries.iter().any(|(entry, _)| {
                state.ghosts[entry.hint.job as usize].late
                    && state
                        .row(entry.hint.job)
                        .is_some_and(|row| row.epoch > entry.hint.epoch)
            })
        }),
        Property::<Machine>::sometimes(SAME_LOSS_SEEN_TWICE, |_, state| {
            matches!(state.duties, [Duty::Asked { .. }, Duty::Asked { .. }])
                && state.duties[0] == state.duties[1]
        }),
        Property::<Machine>::sometimes(PHANTOM_HINT, |_, state| {
            state
                .redis
                .entries
                .iter()
                .any(|(entry, _)| state.row(entry.hint.job).is_none())
        }),
        Property::<Machine>::sometimes(UNREAD_LEFT, |machine, state| {
            !state.redis.entries.is_empty() && machine.is_at_rest(state)
        }),
        Property::<Machine>::sometimes(OVERLAP_FROZEN, |_, state| {
            !holds(Broken::OverlapFrozen)(state)
        }),
        Property::<Machine>::sometimes(OVERLAP_TAMPERED, |_, state| {
            !holds(Broken::OverlapTampered)(state)
        }),
        Property::<Machine>::sometimes(OVERLAP_LATE, |_, state| !holds(Broken::OverlapLate)(state)),
        Property::<Machine>::sometimes(OVERLAP_OUTAGE, |_, state| {
            !holds(Broken::OverlapOutage)(state)
        }),
        Property::<Machine>::sometimes(OVERLAP_SEIZED, |_, state| {
            !holds(Broken::OverlapSeized)(state)
        }),
        Property::<Machine>::sometimes(OVERLAP_THAWED, |_, state| {
            !holds(Broken::OverlapThawed)(state)
        }),
    ]
}

impl State {
    /// A run begins while another of the same job is under way: why that is allowed, if it is.
    pub(crate) fn judge_overlap(
        &self,
        mends: Mends,
        job: u8,
        begins: &Hold,
        running: &Hold,
        thawed: bool,
    ) -> Option<Broken> {
        let ghost = self.ghosts[job as usize];
        let in_first_200_ms = running.phase == Phase::Fresh;
        Some(if running.was_frozen {
            Broken::OverlapFrozen
        } else if ghost.tampered && in_first_200_ms {
            Broken::OverlapTampered
        } else if ghost.late && in_first_200_ms {
            Broken::OverlapLate
        } else if begins.phase == Phase::Leased && in_first_200_ms {
            if mends.direct_claim_waits {
                return None;
            }
            Broken::OverlapOutage
        } else if !mends.rehand_spares_leased && ghost.seized && (ghost.tampered || ghost.late) {
            Broken::OverlapSeized
        } else if !mends.rescue_asks_again && thawed {
            Broken::OverlapThawed
        } else {
            Broken::Overlap
        })
    }
}
