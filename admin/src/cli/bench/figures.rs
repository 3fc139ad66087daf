//! The list of figures: what is measured, by which name, and whether a quick run has it.

use super::{
    super::CommandError,
    beside::Beside,
    drain::{self, Backlog},
    enqueue,
    latency::{self, Door},
    row::Row,
    site::Site,
    slow, statements,
};

/// A figure: what it is called, whether a quick run has it, and how it is measured.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) quick: bool,
    what: What,
}

enum What {
    Bulk,
    Callers(usize),
    Drain(Backlog),
    Both,
    Slow,
    Latency(Door, Beside),
    Idle,
    Statements,
}

const fn figure(name: &'static str, quick: bool, what: What) -> Figure {
    Figure { name, quick, what }
}

/// As many jobs as were asked for.
const fn drain(workers: u32) -> What {
    What::Drain(Backlog {
        workers,
        jobs: None,
        beside: Beside::Nothing,
    })
}

/// So many jobs, one worker.
const fn backlog(jobs: u64, beside: Beside) -> What {
    What::Drain(Backlog {
        workers: 1,
        jobs: Some(jobs),
        beside,
    })
}

pub(super) const FIGURES: [Figure; 27] = [
    figure("bulk_enqueue", true, What::Bulk),
    figure("enqueue_1_caller", true, What::Callers(1)),
    figure("enqueue_32_callers", false, What::Callers(32)),
    figure("enqueue_256_callers", true, What::Callers(256)),
    figure("produce_and_consume", true, What::Both),
    figure("statements", true, What::Statements),
    figure("drain_1_worker", true, drain(1)),
    figure("drain_2_workers", false, drain(2)),
    figure("drain_4_workers", false, drain(4)),
    figure("drain_10k", false, backlog(10_000, Beside::Nothing)),
    figure("drain_100k", false, backlog(100_000, Beside::Nothing)),
    figure("drain_1m", false, backlog(1_000_000, Beside::Nothing)),
    figure(
        "drain_10k_tenants",
        false,
        backlog(100_000, Beside::Tenants),
    ),
    figure(
        "drain_open_transaction",
        false,
        backlog(100_000, Beside::OpenTransaction),
    ),
    figure(
        "drain_redis_away",
        true,
        backlog(100_000, Beside::RedisAway),
    ),
    figure(
        "drain_5m_finished",
        false,
        backlog(100_000, Beside::Finished),
    ),
    figure("slow_handlers", false, What::Slow),
    figure("idle", true, What::Idle),
    figure(
        "latency_library",
        true,
        What::Latency(Door::Library, Beside::Nothing),
    ),
    figure(
        "latency_transaction",
        false,
        What::Latency(Door::Transaction, Beside::Nothing),
    ),
    figure(
        "latency_http",
        true,
        What::Latency(Door::Http, Beside::Nothing),
    ),
    figure(
        "latency_sql",
        true,
        What::Latency(Door::Sql, Beside::Nothing),
    ),
    figure(
        "latency_open_transaction",
        false,
        What::Latency(Door::Library, Beside::OpenTransaction),
    ),
    figure(
        "latency_redis_away",
        false,
        What::Latency(Door::Library, Beside::RedisAway),
    ),
    figure(
        "latency_5m_finished",
        false,
        What::Latency(Door::Library, Beside::Finished),
    ),
    figure(
        "latency_10k_tenants",
        false,
        What::Latency(Door::Library, Beside::WaitingOfTenants),
    ),
    figure(
        "latency_behind_1m",
        false,
        What::Latency(Door::Library, Beside::Waiting),
    ),
];

/// One run of one of them.
pub(super) async fn measure(site: &Site, figure: &Figure, jobs: u64) -> Result<Row, CommandError> {
    match &figure.what {
        What::Bulk => enqueue::bulk(site, figure.name, jobs).await,
        What::Callers(callers) => enqueue::callers(site, figure.name, *callers, jobs).await,
        What::Drain(backlog) => drain::backlog(site, figure.name, backlog, jobs).await,
        What::Statements => statements::looked_at(site, figure.name, jobs).await,
        What::Both => drain::while_producing(site, figure.name, jobs).await,
        What::Slow => slow::handlers(site, figure.name).await,
        What::Latency(door, beside) => latency::of(site, figure.name, *door, *beside).await,
        What::Idle => slow::idle(site, figure.name).await,
    }
}
