//! The catalogue of faults: an id as in the specification of faults, what may follow from it, and how it is injected and healed.
//!
//! A case is one `async fn(&Fleet, &mut Rng) -> Result<()>` that returns when its fault is healed, and a line in [`all`]. What it
//! draws comes from the `Rng` it is given, whose seed is that of the run and the case's id. What it expects beside the
//! invariants it says by [`Fleet::complain`]. Its sleeps are lengths of faults, and times between looks. [`heal`] undoes what it left, also after an error.
//!
//! Of the specification's cases these are not here:
//!
//! - F18, F19 (failover, split brain of Redis): no installation of the harness replicates; what a promoted replica lacks or has
//!   again is F15 to F17.
//! - F32 (a script that blocks Redis) looks like F21 and F22 to every client; F33 (a changed password) changes the settings of
//!   the whole fleet, which are read at the start of a process.
//! - F38, F39 (no disk, EIO below Postgres) need root for the very folder of the truth; what clients see of a panic is F35.
//! - F41, F58, F60, F61 take half an hour, a million jobs, a dashboard, a night: longer than a run or not built.
//! - F52, F53 (old and new program, migrations) need two builds; what they rest on is in `tests/tests/recovery/runs.rs` (unknown
//!   kinds, newer versions) and `tests/tests/degraded/schema.rs`.
//! - F54, F55, F59 (schedulers, batches, rate limits) are not built yet.
//! - F62 is `scripts/sabotage.sh`.
//!
//! Exact counts, which no load can give, are in tests of their own: F02 to F04 in `tests/tests/steps.rs`, F26 to F31, F43 and
//! F44 to F46 in `tests/tests/cuts`, F47 in `tests/tests/recovery/crashes.rs`, F48 in `tests/tests/guarantees/hearts.rs`. F49
//! with `panic=abort` is a worker that aborts: F47.

mod asks;
mod away;
mod callers;
mod clocks;
mod full;
mod links;
mod postgres;
mod races;
mod redis;
mod rights;
mod rude;
mod steps;
mod streams;
mod until;
mod workers;

use std::{future::Future, pin::Pin};

use anyhow::Result;

pub use super::judge::Class;
use super::{fleet::Fleet, rng::Rng};

/// What a case does harm to: two cases of one target never run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Worker and producer processes.
    Processes,
    /// Redis: the server, its data, the links to it.
    Redis,
    /// Postgres: the server, its sessions, the links to it.
    Postgres,
}

/// Injects a fault and heals it.
type Inject =
    for<'a> fn(&'a Fleet, &'a mut Rng) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One fault.
#[derive(Clone, Copy)]
pub struct Case {
    /// As in the specification of faults (F), or in the list of what outside use found (X).
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What may follow from it.
    pub class: Class,
    /// What it does harm to.
    pub target: Target,
    /// Part of the quick selection.
    pub quick: bool,
    /// How it is done.
    pub inject: Inject,
}

/// A line of the catalogue: `case!("F01", "title", Class, Target, function)`, with `quick` at the end for the quick selection.
macro_rules! case {
    ($id:literal, $title:literal, $class:ident, $target:ident, $inject:path) => {
        case!($id, $title, $class, $target, $inject, false)
    };
    ($id:literal, $title:literal, $class:ident, $target:ident, $inject:path, quick) => {
        case!($id, $title, $class, $target, $inject, true)
    };
    ($id:literal, $title:literal, $class:ident, $target:ident, $inject:path, $quick:literal) => {
        Case {
            id: $id,
            title: $title,
            class: Class::$class,
            target: Target::$target,
            quick: $quick,
            inject: |fleet, rng| Box::pin($inject(fleet, rng)),
        }
    };
}

/// Every case.
pub fn all() -> Vec<Case> {
    [of_processes(), of_redis(), of_postgres()].concat()
}

fn of_processes() -> Vec<Case> {
    vec![
        case!(
            "F01",
            "kill -9 of a worker every 2 s",
            Crash,
            Processes,
            workers::killed,
            quick
        ),
        case!(
            "F02",
            "a worker dies at each step",
            Crash,
            Processes,
            steps::of_workers
        ),
        case!(
            "F03a",
            "kill -9 of a producer or the API every second",
            Crash,
            Processes,
            workers::producers_killed
        ),
        case!(
            "F03b",
            "a producer dies between COMMIT and XADD",
            Crash,
            Processes,
            steps::of_producers
        ),
        case!(
            "F04",
            "a worker dies while it dispatches",
            Crash,
            Processes,
            steps::of_dispatchers
        ),
        case!(
            "F05",
            "SIGSTOP of a worker for three leases",
            Freeze,
            Processes,
            workers::frozen
        ),
        case!(
            "F05b",
            "SIGSTOP of a worker for less than a lease",
            Crash,
            Processes,
            workers::frozen_shortly
        ),
        case!(
            "F06",
            "SIGSTOP of the leader",
            Freeze,
            Processes,
            workers::leader_frozen
        ),
        // What else its threads have in hand stands still with them.
        case!(
            "F07",
            "all slots of a worker are busy loops",
            Freeze,
            Processes,
            rude::hogs
        ),
        case!(
            "F43",
            "callers give up within 50 ms",
            Crash,
            Processes,
            callers::impatient
        ),
        case!(
            "F46",
            "the clock of a worker jumps",
            Crash,
            Processes,
            clocks::of_a_worker
        ),
        case!(
            "F47",
            "jobs that kill their worker",
            Crash,
            Processes,
            rude::poison
        ),
        case!(
            "F48",
            "a job never gives its thread back",
            Crash,
            Processes,
            rude::stuck
        ),
        case!("F49", "handlers panic", Crash, Processes, rude::panics),
        case!(
            "F50",
            "garbage at every door",
            Crash,
            Processes,
            callers::garbage
        ),
        case!(
            "F51",
            "SIGTERM once, twice, during the start",
            Crash,
            Processes,
            workers::told_to_end
        ),
        case!(
            "F56",
            "one key through three doors at once",
            Crash,
            Processes,
            callers::same_key
        ),
    ]
}

fn of_redis() -> Vec<Case> {
    vec![
        case!(
            "F08",
            "FLUSHALL every 2 s",
            Crash,
            Redis,
            redis::flushed,
            quick
        ),
        case!(
            "F09a",
            "DEL of a stream, SETID $",
            Crash,
            Redis,
            streams::lost
        ),
        case!(
            "F09b",
            "XGROUP DESTROY, SETID 0",
            Repeat,
            Redis,
            streams::rewound
        ),
        case!(
            "F10",
            "DELCONSUMER of the living",
            Crash,
            Redis,
            streams::consumers_deleted
        ),
        case!(
            "F11",
            "XTRIM to 0, XDEL of pending entries",
            Crash,
            Redis,
            streams::entries_deleted
        ),
        case!(
            "F12",
            "garbage, forged and copied entries",
            Repeat,
            Redis,
            streams::forged,
            quick
        ),
        case!(
            "F13",
            "a recorded stream is replayed",
            Repeat,
            Redis,
            streams::replayed
        ),
        case!("F14", "kill -9 of Redis", Repeat, Redis, redis::killed),
        case!(
            "F14b",
            "Redis is away for a minute",
            Crash,
            Redis,
            away::of_redis
        ),
        case!(
            "F15",
            "Redis loses the end of its log",
            Repeat,
            Redis,
            redis::tail_cut
        ),
        case!(
            "F16",
            "an old copy of Redis",
            Repeat,
            Redis,
            redis::put_back
        ),
        case!(
            "F17",
            "Redis restarts with nothing",
            Crash,
            Redis,
            redis::restarted_empty,
            quick
        ),
        case!(
            "F20",
            "CLIENT KILL every 200 ms",
            Crash,
            Redis,
            redis::disconnected
        ),
        case!("F21", "CLIENT PAUSE", Crash, Redis, redis::paused),
        case!("F22", "SIGSTOP of Redis", Crash, Redis, redis::frozen),
        // It claims from Postgres what another has just read.
        case!(
            "F23",
            "a worker is cut off from Redis",
            Repeat,
            Redis,
            links::redis_silent
        ),
        case!(
            "F25a",
            "a worker does not hear Redis",
            Repeat,
            Redis,
            links::redis_unheard
        ),
        case!(
            "F27a",
            "the links to Redis are slow",
            Crash,
            Redis,
            links::redis_slow
        ),
        case!(
            "F29",
            "the memory of Redis is full",
            Crash,
            Redis,
            full::memory
        ),
        case!("F30", "Redis evicts", Crash, Redis, full::evicting),
        case!(
            "F31",
            "the disk of Redis is full",
            Repeat,
            Redis,
            full::disk
        ),
        case!(
            "F44",
            "the clock of Redis jumps and drifts",
            Crash,
            Redis,
            clocks::of_redis
        ),
        // A worker that sees it first claims from Postgres what another has just read.
        case!(
            "X20",
            "each right is taken away in turn",
            Repeat,
            Redis,
            rights::taken_away
        ),
        case!(
            "X60",
            "entries and names that are no text",
            Crash,
            Redis,
            streams::unreadable
        ),
        case!(
            "X61",
            "ids used up, groups ahead of their stream",
            Crash,
            Redis,
            streams::used_up
        ),
    ]
}

fn of_postgres() -> Vec<Case> {
    vec![
        case!(
            "F24",
            "a worker is cut off from Postgres for three leases",
            Freeze,
            Postgres,
            links::postgres_silent
        ),
        case!(
            "F25b",
            "a worker does not hear Postgres",
            Freeze,
            Postgres,
            links::postgres_unheard
        ),
        case!(
            "F26",
            "answers of Postgres are cut off",
            Crash,
            Postgres,
            links::answers_lost
        ),
        case!(
            "F27b",
            "the links to Postgres are slow",
            Crash,
            Postgres,
            links::postgres_slow
        ),
        case!(
            "F28",
            "a narrow link to Postgres",
            Crash,
            Postgres,
            links::postgres_narrow
        ),
        case!(
            "F34",
            "pg_terminate_backend every 100 ms",
            Crash,
            Postgres,
            postgres::terminated,
            quick
        ),
        case!(
            "F35",
            "Postgres restarts immediately",
            Crash,
            Postgres,
            postgres::restarted,
            quick
        ),
        case!(
            "F36",
            "Postgres is away for three leases",
            Crash,
            Postgres,
            postgres::stopped
        ),
        case!(
            "F36b",
            "Postgres takes no writes for two leases",
            Crash,
            Postgres,
            postgres::read_only
        ),
        case!(
            "F37",
            "SIGSTOP of all Postgres backends",
            Crash,
            Postgres,
            postgres::frozen
        ),
        case!("F40", "LOCK TABLE job", Crash, Postgres, postgres::locked),
        case!(
            "F42",
            "no connection is free",
            Crash,
            Postgres,
            postgres::crowded
        ),
        case!(
            "F45",
            "the clock of Postgres jumps",
            Crash,
            Postgres,
            clocks::of_postgres
        ),
        case!(
            "F57",
            "cancel and retry against each other",
            Crash,
            Postgres,
            races::moves
        ),
    ]
}

/// Undoes what a case may have left: frozen processes and servers go on, stopped servers are there again.
pub async fn heal(fleet: &Fleet, target: Target) -> Result<()> {
    match target {
        Target::Processes => fleet.thaw(""),
        Target::Redis => redis::healed(fleet).await?,
        Target::Postgres => postgres::healed(fleet).await?,
    }
    Ok(())
}
