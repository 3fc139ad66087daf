//! Weak spots that the model has found: without its mend each has a schedule to it, with its mend none.

use super::{
    check::{counterexample, explore},
    invariants::{
        DRIVEN, OVERLAP_LATE, OVERLAP_OUTAGE, OVERLAP_SEIZED, OVERLAP_THAWED, UNREAD_LEFT,
    },
    rules::{
        Door::{Producer, Shut, Sql},
        Fault::{Freeze, Late, Outage, Repeat, Resurrect, SkipAhead, Unpend},
        Mends, Protocol,
    },
};

const NONE: Mends = Mends {
    rescue_asks_again: false,
    rehand_spares_leased: false,
    reconcile_lists_all_streams: false,
    direct_claim_waits: false,
};

fn is_closed(name: &str, protocol: &Protocol, mends: Mends, weakness: &'static str) {
    counterexample(name, &protocol.clone().mended(NONE), weakness);
    let explored = explore(&format!("{name}, mended"), protocol.clone().mended(mends));
    explored.holds(100, &[]);
    assert!(
        !explored.found.contains(weakness),
        "mended, and still: {weakness}"
    );
}

// I5: the rescuer saw a silent heart, was slow, and takes what the worker has taken in hand since it thawed.
#[test]
fn a_slow_rescue_takes_new_jobs_from_a_worker_that_has_thawed() {
    let protocol = Protocol::new([Producer, Shut], &[(Freeze, 1)]);
    is_closed(
        "slow rescue",
        &protocol,
        Mends {
            rescue_asks_again: true,
            ..NONE
        },
        OVERLAP_THAWED,
    );
}

// I5: re-handing on the word of an entry or a listing also takes a job that has been leased since, or by somebody else.
#[test]
fn a_rehand_on_the_word_of_an_entry_takes_a_leased_job() {
    let late = Protocol::new([Producer, Shut], &[(Late, 1)]);
    is_closed(
        "late publisher and slow reconcile",
        &late,
        Mends {
            rehand_spares_leased: true,
            ..NONE
        },
        OVERLAP_SEIZED,
    );
    let old = Protocol::new([Producer, Shut], &[(Resurrect, 1), (Repeat, 1)]).duties(1);
    is_closed(
        "old pending entry",
        &old,
        Mends {
            rehand_spares_leased: true,
            ..NONE
        },
        OVERLAP_SEIZED,
    );
}

// I1 I8: an entry that is not needed any more, and that the group was moved past or whose consumer was deleted, is read by nobody. Reconcile
// removes such entries only where a parcel is in doubt; a window full of them gets no parcel.
#[test]
fn entries_that_nobody_will_read_can_fill_the_window_for_good() {
    let mends = Mends {
        reconcile_lists_all_streams: true,
        ..NONE
    };
    let deleted = Protocol::new([Producer, Sql], &[(Outage, 1), (Unpend, 1)])
        .duties(1)
        .slots(1)
        .window(1);
    is_closed(
        "lost acknowledgement and deleted consumer, full window",
        &deleted,
        mends,
        DRIVEN,
    );
    let moved = Protocol::new([Producer, Shut], &[(Repeat, 1), (SkipAhead, 1)]).duties(1);
    is_closed("repeated entry and moved group", &moved, mends, UNREAD_LEFT);
}

// I5: a worker that is cut off from Redis claims what another has just read.
#[test]
fn a_direct_claim_overlaps_with_the_first_200_ms_of_another() {
    let protocol = Protocol::new([Producer, Shut], &[(Outage, 1)]).duties(1);
    is_closed(
        "outage",
        &protocol,
        Mends {
            direct_claim_waits: true,
            ..NONE
        },
        OVERLAP_OUTAGE,
    );
}

// I5: a publisher that is frozen for longer than the grace adds an entry while reconcile waits. Nothing mends this but the next lease: the
// overlap lasts 200 ms.
#[test]
fn a_late_publisher_overlaps_in_the_first_200_ms() {
    counterexample(
        "late publisher",
        &Protocol::new([Producer, Shut], &[(Late, 1)]).duties(1),
        OVERLAP_LATE,
    );
}
