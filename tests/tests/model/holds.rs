//! The protocol as it is keeps its invariants, whichever one or two faults happen at whichever moment.
//!
//! Budgets are as large as can be explored to the end in seconds by a build without optimisation: two faults with one job, one with
//! two. Where that is still too much, a worker has one slot.

use super::{
    check::{comes_to_an_end, explore},
    invariants::{
        COMPLETED, DEAD, DEAD_LEASE, LATE_XADD, OVERLAP_FROZEN, OVERLAP_TAMPERED, PHANTOM_HINT,
        REHANDED, SAME_LOSS_SEEN_TWICE, STALE_RUN,
    },
    rules::{
        Door::{Producer, Shut, Sql},
        Fault::{
            self, Crash, Dropped, Flush, Forge, Freeze, Late, Lose, Outage, Refused, Repeat,
            ReplyLost, Resurrect, SkipAhead, Ungroup, Unknown, Unpend,
        },
        Protocol, Variant,
    },
};

fn one_job(faults: &[(Fault, u8)]) -> Protocol {
    Protocol::new([Producer, Shut], faults)
}

fn two_jobs(faults: &[(Fault, u8)]) -> Protocol {
    Protocol::new([Producer, Sql], faults)
}

// I1-I8
#[test]
fn without_faults_two_jobs_complete_at_their_first_epoch() {
    let explored = explore("no fault, two jobs", two_jobs(&[]));
    explored.holds(100, &[COMPLETED]);
    assert!(
        !explored.found.contains(REHANDED),
        "an epoch was raised without a fault"
    );
}

// I1 I2: F03, F04, F26
#[test]
fn a_publisher_may_die_or_dawdle_and_a_commit_may_go_unanswered() {
    let faults = [(Dropped, 2), (Refused, 1), (Unknown, 2), (Late, 1)];
    let examples = [COMPLETED, REHANDED, LATE_XADD, SAME_LOSS_SEEN_TWICE];
    explore("doors, one job, two faults", one_job(&faults).at_most(2)).holds(10_000, &examples);
    explore("doors, two jobs, one fault", two_jobs(&faults).at_most(1)).holds(10_000, &examples);
}

// I1 I3 I5: F01, F02
#[test]
fn workers_may_crash_and_lose_answers_at_any_step() {
    let faults = [(Crash, 2), (ReplyLost, 1), (Unknown, 1)];
    explore(
        "crashes, one job, three faults",
        one_job(&[(Crash, 2), (Dropped, 1)]),
    )
    .holds(
        22_000,
        &[COMPLETED, REHANDED, DEAD_LEASE, SAME_LOSS_SEEN_TWICE],
    );
    explore(
        "crashes, two jobs, one fault",
        two_jobs(&faults).at_most(1).duties(1),
    )
    .holds(7_000, &[COMPLETED, REHANDED, DEAD_LEASE]);
}

// I6: one more crash than a job may cause, at whichever step of whichever run.
#[test]
fn a_job_that_kills_three_workers_is_dead() {
    let poison = Protocol::new([Sql, Shut], &[(Crash, 4)])
        .duties(1)
        .counting_kills();
    explore("poison, one job, four crashes", poison).holds(15_000, &[COMPLETED, DEAD]);
}

// I3 I4 I5: F05, F06
#[test]
fn a_frozen_worker_may_thaw_at_any_step_and_act_on_what_it_knew() {
    let examples = [COMPLETED, REHANDED, STALE_RUN, OVERLAP_FROZEN];
    explore(
        "freeze, one job, two faults",
        one_job(&[(Freeze, 2)]).duties(1),
    )
    .holds(40_000, &examples);
    explore(
        "freeze, one job, one fault, two duties",
        one_job(&[(Freeze, 1)]),
    )
    .holds(4_000, &examples);
    explore(
        "freeze, two jobs, one fault, one slot",
        two_jobs(&[(Freeze, 1)]).duties(1).slots(1),
    )
    .holds(10_000, &examples);
}

// I1 I5 I8: F08, F09, F10, F11, F15
#[test]
fn redis_may_lose_entries_its_group_and_what_is_pending() {
    let faults = [
        (Lose, 2),
        (Flush, 2),
        (Ungroup, 1),
        (SkipAhead, 1),
        (Unpend, 1),
    ];
    let examples = [COMPLETED, REHANDED, STALE_RUN, SAME_LOSS_SEEN_TWICE];
    explore("losses, one job, two faults", one_job(&faults).at_most(2)).holds(4_000, &examples);
    explore(
        "losses, two jobs, one fault",
        two_jobs(&faults).at_most(1).duties(1),
    )
    .holds(5_000, &[COMPLETED, REHANDED]);
}

// I1 I2 I5 I8: F12, F16
#[test]
fn redis_may_repeat_forge_and_resurrect_entries() {
    let faults = [(Flush, 1), (Repeat, 1), (Forge, 1), (Resurrect, 1)];
    let examples = [COMPLETED, REHANDED, OVERLAP_TAMPERED, PHANTOM_HINT];
    explore(
        "lies, one job, two faults",
        one_job(&faults).at_most(2).duties(1),
    )
    .holds(30_000, &examples);
}

// I1 I2 I5 I8: F12, F16
#[test]
fn redis_may_lie_about_either_of_two_jobs() {
    let faults = [(Repeat, 1), (Forge, 1), (Resurrect, 1)];
    let examples = [COMPLETED, REHANDED, OVERLAP_TAMPERED, PHANTOM_HINT];
    explore(
        "lies, two jobs, one fault",
        two_jobs(&faults).at_most(1).duties(1),
    )
    .holds(20_000, &examples);
}

// I1 I5: Redis stopped and started again
#[test]
fn redis_may_go_away_and_come_back() {
    let faults = [(Outage, 2), (Lose, 1), (Flush, 1), (Crash, 1)];
    let one = Protocol::new([Sql, Shut], &faults).at_most(2).duties(1);
    explore("outage, one job, two faults", one).holds(5_000, &[COMPLETED, REHANDED, DEAD_LEASE]);
    explore(
        "outage, two jobs, one fault",
        two_jobs(&[(Outage, 1)]).duties(1),
    )
    .holds(35_000, &[COMPLETED, REHANDED]);
}

// I1-I8
#[test]
fn a_frozen_worker_and_a_lossy_redis_together() {
    let faults = [
        (Freeze, 1),
        (Lose, 1),
        (Flush, 1),
        (Repeat, 1),
        (Ungroup, 1),
        (Unknown, 1),
    ];
    let examples = [
        COMPLETED,
        REHANDED,
        STALE_RUN,
        OVERLAP_FROZEN,
        OVERLAP_TAMPERED,
    ];
    explore(
        "freeze and losses, one job, two faults",
        one_job(&faults).at_most(2).duties(1),
    )
    .holds(45_000, &examples);
}

// I1-I8
#[test]
fn a_frozen_or_crashed_worker_and_a_lying_redis_together() {
    let frozen = one_job(&[(Freeze, 1), (Resurrect, 1)]).duties(1).slots(1);
    explore(
        "freeze and an old copy, one job, two faults, one slot",
        frozen,
    )
    .holds(30_000, &[COMPLETED, REHANDED, STALE_RUN, OVERLAP_FROZEN]);
    let crashed = one_job(&[
        (Crash, 1),
        (ReplyLost, 1),
        (Flush, 1),
        (Ungroup, 1),
        (Resurrect, 1),
    ])
    .at_most(2)
    .duties(1);
    explore("crash and lies, one job, two faults", crashed)
        .holds(20_000, &[COMPLETED, REHANDED, DEAD_LEASE, OVERLAP_TAMPERED]);
}

// I2: what is read before the job is committed is a stale hint, and reconcile finds the job.
#[test]
fn an_entry_added_before_the_commit_hints_at_nothing_and_loses_nothing() {
    let variant = Variant {
        publish_before_commit: true,
        ..Variant::default()
    };
    let early = one_job(&[(Crash, 1), (Freeze, 1), (Flush, 1), (Repeat, 1)])
        .at_most(1)
        .sabotaged(variant);
    explore("XADD inside the transaction, one job, one fault", early)
        .holds(12_000, &[COMPLETED, REHANDED, PHANTOM_HINT]);
}

// I1: together with a driver in each state, this is what makes work finish.
#[test]
fn no_schedule_goes_in_circles() {
    let faults = [
        (Freeze, 1),
        (Crash, 1),
        (Flush, 1),
        (Repeat, 1),
        (Outage, 1),
        (Unknown, 1),
        (Late, 1),
    ];
    assert!(comes_to_an_end(one_job(&faults).at_most(1)));
}
