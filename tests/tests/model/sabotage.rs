//! Each part of the protocol is needed: without it, a schedule breaks a named invariant.

use super::{
    check::{counterexample, explore},
    invariants::{
        CLAIMED_ONCE, CRASHES, CURRENT_EPOCH, DRIVEN, FINAL, NO_PHANTOM, ONE_OUTCOME, OVERLAP,
        UNREAD_LEFT,
    },
    rules::{
        Door::{Producer, Shut, Sql},
        Fault::{AckTorn, Crash, Flush, Forge, Freeze, SkipAhead, Ungroup},
        Mends, Protocol, Variant,
    },
};

fn one_job(faults: &[(super::rules::Fault, u8)], variant: Variant) -> Protocol {
    Protocol::new([Producer, Shut], faults)
        .duties(1)
        .sabotaged(variant)
}

// I4
#[test]
fn without_the_epoch_in_settle_a_frozen_worker_ends_a_job_that_is_another_ones() {
    let variant = Variant {
        settle_without_epoch: true,
        ..Variant::default()
    };
    counterexample(
        "no epoch guard on settle",
        &one_job(&[(Freeze, 1)], variant),
        CURRENT_EPOCH,
    );
}

// I3 I7
#[test]
fn without_any_guard_in_settle_a_job_has_two_outcomes_and_the_dead_complete() {
    let variant = Variant {
        settle_without_guard: true,
        ..Variant::default()
    };
    counterexample(
        "no guard on settle",
        &one_job(&[(Freeze, 1)], variant),
        ONE_OUTCOME,
    );
    let fragile = one_job(&[(Freeze, 1)], variant).crashes_max(1);
    counterexample("no guard on settle, one crash is deadly", &fragile, FINAL);
}

// I2
#[test]
fn without_asking_postgres_a_forged_job_is_run() {
    let variant = Variant {
        claim_without_asking: true,
        ..Variant::default()
    };
    counterexample(
        "claim without asking",
        &one_job(&[(Forge, 1)], variant),
        NO_PHANTOM,
    );
}

// I4 I6: the frozen worker's outcome would be accepted as the new one's, and no crash would be counted.
#[test]
fn a_redelivery_at_the_same_epoch_gives_one_epoch_to_two_workers() {
    let variant = Variant {
        takeover_keeps_epoch: true,
        ..Variant::default()
    };
    counterexample(
        "claim by redelivery",
        &one_job(&[(Freeze, 1)], variant),
        CLAIMED_ONCE,
    );
    counterexample(
        "claim by redelivery, poison",
        &one_job(&[(Crash, 4)], variant).counting_kills(),
        CRASHES,
    );
}

// I1: reconcile does not trust the group's position, and this alone makes up for a group at `$`.
#[test]
fn a_group_at_dollar_loses_jobs_unless_reconcile_looks_at_its_position() {
    let dollar = Variant {
        group_at_dollar: true,
        ..Variant::default()
    };
    explore("group at $", one_job(&[(Ungroup, 2), (Crash, 1)], dollar)).holds(500, &[]);
    let both = Variant {
        reconcile_trusts_the_listing: true,
        ..dollar
    };
    counterexample(
        "group at $ and a trusting reconcile",
        &one_job(&[(Ungroup, 1)], both),
        DRIVEN,
    );
    let trusting = Variant {
        reconcile_trusts_the_listing: true,
        ..Variant::default()
    };
    counterexample(
        "SETID $ and a trusting reconcile",
        &one_job(&[(SkipAhead, 1)], trusting),
        DRIVEN,
    );
}

// I1
#[test]
fn what_was_published_and_lost_is_the_case_that_reconcile_is_for() {
    let variant = Variant {
        reconcile_only_unpublished: true,
        ..Variant::default()
    };
    counterexample(
        "reconcile of unpublished parcels only",
        &one_job(&[(Flush, 1)], variant),
        DRIVEN,
    );
}

// I6 I1: reconcile finds the job, so it is not lost; but nobody knows any more that a worker died of it.
#[test]
fn an_entry_acknowledged_at_the_claim_hides_what_kills_workers() {
    let variant = Variant {
        ack_at_claim: true,
        ..Variant::default()
    };
    counterexample(
        "ack before settle or lease",
        &one_job(&[(Crash, 4)], variant).counting_kills(),
        CRASHES,
    );
    let both = Variant {
        reconcile_only_unpublished: true,
        ..variant
    };
    counterexample(
        "ack before settle or lease, reconcile of unpublished parcels only",
        &one_job(&[(Crash, 1)], both),
        DRIVEN,
    );
}

// I5
#[test]
fn a_reconcile_that_does_not_wait_hands_out_what_is_being_worked_on() {
    let variant = Variant {
        reconcile_does_not_wait: true,
        ..Variant::default()
    };
    counterexample(
        "reconcile asks at once",
        &one_job(&[(Flush, 1)], variant),
        OVERLAP,
    );
}

// I6
#[test]
fn a_takeover_that_does_not_tell_of_the_crash_lets_a_job_kill_for_ever() {
    let variant = Variant {
        takeover_misses_crashes: true,
        ..Variant::default()
    };
    counterexample(
        "takeover without blame",
        &one_job(&[(Crash, 4)], variant).counting_kills(),
        CRASHES,
    );
}

// I6: it would be buried for what its neighbours have done.
#[test]
fn a_rescue_that_charges_what_has_not_started_charges_an_innocent_job_twice() {
    let variant = Variant {
        rescue_charges_all: true,
        ..Variant::default()
    };
    counterexample(
        "rescue charges all",
        &one_job(&[(Crash, 2)], variant).counting_kills(),
        CRASHES,
    );
}

// I1 I8: the leftover is read by nobody, and takes up the window, unless reconcile looks at streams without doubtful parcels too.
#[test]
fn an_acknowledgement_in_two_commands_can_stop_a_stream_for_good_if_nobody_tidies_it() {
    let torn = Protocol::new([Producer, Sql], &[(AckTorn, 1)]).duties(1);
    let untidy = torn.mended(Mends {
        reconcile_lists_all_streams: false,
        ..Mends::TODAY
    });
    counterexample("XACK without XDEL", &untidy, UNREAD_LEFT);
    counterexample("XACK without XDEL, full window", &untidy.window(1), DRIVEN);
}
