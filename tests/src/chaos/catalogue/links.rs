//! Faults of the links: silent, deaf, slow, narrow, cut, between some processes and one server, while the server is fine.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use crate::{
    chaos::{fleet::Fleet, rng::Rng},
    faults::{Fault, Proxy, links::Server},
};

/// After a heal a worker that was cut off finishes jobs again within this time.
const BACK_LIMIT: Duration = Duration::from_secs(30);
/// 256 kbit.
const NARROW_BYTES: u64 = 32 * 1024;
/// A worker behind a narrow link grows by less than this.
const GROWTH_MAX_KB: u64 = 100 * 1024;
/// Statements whose answers are cut off, as parts of their texts: enqueue by either way, settle of jobs without and with a lease,
/// lease, claim, and whatever ends a transaction.
const STATEMENTS: [&str; 6] = [
    "millstream.persist",
    "j.id BETWEEN $5 AND $6 AND j.state = 0",
    "j.id BETWEEN $5 AND $6 AND j.state = 1",
    "SELECT id, epoch, $3 FROM running",
    "FROM millstream.job j CROSS JOIN millstream.closed WHERE id = ANY($1)",
    "COMMIT",
];

/// Processes whose way to one server leads through a proxy while an act goes on.
async fn behind<T>(
    fleet: &Fleet,
    names: &[String],
    server: Server,
    act: impl AsyncFnOnce(&Proxy) -> Result<T>,
) -> Result<T> {
    let (variable, url) = match server {
        Server::Postgres => ("DATABASE_URL", fleet.database_url()),
        Server::Redis => ("REDIS_URL", fleet.redis_url()),
    };
    let proxy = Proxy::before(url).await;
    let env = [(variable.to_owned(), proxy.url(url))];
    let acted = async {
        let done = act(&proxy).await;
        proxy.heal();
        done
    };
    fleet.altered(names, &env, acted).await
}

/// One worker is behind a fault for a while and works again after it.
async fn one_worker(
    fleet: &Fleet,
    rng: &mut Rng,
    server: Server,
    fault: Fault,
    time: Duration,
) -> Result<()> {
    let name = rng.pick(&fleet.names("worker"));
    behind(fleet, std::slice::from_ref(&name), server, async |proxy| {
        fleet.timeline.note(&format!(
            "{fault:?} between {name} and {server:?} for {} s",
            time.as_secs()
        ));
        let cut_off = async {
            proxy.set(fault);
            sleep(time).await;
            proxy.heal();
        };
        match server {
            // It cannot say that it lives.
            Server::Postgres => fleet.held(&name, cut_off).await,
            Server::Redis => cut_off.await,
        }
        comes_back(fleet, &name).await
    })
    .await
}

/// Its heal is seen by what it finishes, before it is started again.
async fn comes_back(fleet: &Fleet, name: &str) -> Result<()> {
    let pid = fleet
        .pid(name)
        .with_context(|| format!("{name} does not run"))?;
    let finished = format!(
        "SELECT count(*) FROM millstream.job j JOIN millstream.worker w ON w.id = j.worker_id WHERE w.pid = {pid} AND j.state = 2"
    );
    let (began, before) = (Instant::now(), fleet.number(&finished).await?);
    while fleet.number(&finished).await? == before {
        if began.elapsed() > BACK_LIMIT {
            fleet.complain(format!(
                "{name} finished nothing within {} s of its heal",
                BACK_LIMIT.as_secs()
            ));
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    fleet.timeline.note(&format!(
        "{name} finishes jobs {:.1} s after its heal",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// F23
pub(super) async fn redis_silent(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    one_worker(
        fleet,
        rng,
        Server::Redis,
        Fault::BLACK_HOLE,
        Duration::from_secs(8),
    )
    .await
}

/// F24
pub(super) async fn postgres_silent(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    one_worker(
        fleet,
        rng,
        Server::Postgres,
        Fault::BLACK_HOLE,
        3 * fleet.settings.lease,
    )
    .await
}

/// F25
pub(super) async fn redis_unheard(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    one_worker(
        fleet,
        rng,
        Server::Redis,
        Fault::BlackHole {
            up: false,
            down: true,
        },
        Duration::from_secs(8),
    )
    .await
}

/// F25
pub(super) async fn postgres_unheard(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    one_worker(
        fleet,
        rng,
        Server::Postgres,
        Fault::BlackHole {
            up: false,
            down: true,
        },
        Duration::from_secs(8),
    )
    .await
}

/// F26: what is asked for is done, and nobody is told.
pub(super) async fn answers_lost(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let names = [
        rng.pick(&fleet.names("worker")),
        "producer-0".to_owned(),
        "api".to_owned(),
    ];
    behind(fleet, &names, Server::Postgres, async |proxy| {
        fleet.timeline.note(&format!(
            "answers from Postgres to {names:?} are cut off for 10 s"
        ));
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            proxy.set(Fault::CutStatement {
                text: rng.pick(&STATEMENTS).to_owned(),
            });
            sleep(Duration::from_millis(300)).await;
        }
        fleet
            .timeline
            .note(&format!("{} answers were cut off", proxy.cuts()));
        if proxy.cuts() < STATEMENTS.len() && fleet.is_alone() {
            fleet.complain(format!("only {} answers were cut off", proxy.cuts()));
        }
        Ok(())
    })
    .await
}

/// F27, for everybody.
pub(super) async fn redis_slow(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    slow(fleet, Server::Redis).await
}

/// F27, for everybody.
pub(super) async fn postgres_slow(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    slow(fleet, Server::Postgres).await
}

async fn slow(fleet: &Fleet, server: Server) -> Result<()> {
    behind(fleet, &fleet.names(""), server, async |proxy| {
        fleet.timeline.note(&format!(
            "round trips to {server:?} take 100 to 300 ms for 8 s"
        ));
        proxy.set(Fault::Delay {
            mean: Duration::from_millis(100),
            jitter: Duration::from_millis(50),
        });
        sleep(Duration::from_secs(8)).await;
        Ok(())
    })
    .await
}

/// F28
pub(super) async fn postgres_narrow(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let name = rng.pick(&fleet.names("worker"));
    behind(
        fleet,
        std::slice::from_ref(&name),
        Server::Postgres,
        async |proxy| {
            let before = memory_kb(fleet, &name);
            proxy.set(Fault::Throttle {
                bytes_per_second: NARROW_BYTES,
            });
            fleet.timeline.note(&format!(
                "{name} and Postgres exchange at most {NARROW_BYTES} bytes a second for 10 s"
            ));
            sleep(Duration::from_secs(10)).await;
            let after = memory_kb(fleet, &name);
            fleet.timeline.note(&format!(
                "memory of {name}: {before} kB before, {after} kB behind the narrow link"
            ));
            if after > before + GROWTH_MAX_KB {
                fleet.complain(format!(
                    "{name} grew from {before} to {after} kB behind a narrow link"
                ));
            }
            proxy.heal();
            comes_back(fleet, &name).await
        },
    )
    .await
}

fn memory_kb(fleet: &Fleet, name: &str) -> u64 {
    let status = fleet
        .pid(name)
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kb| kb.parse().ok())
        .unwrap_or(0)
}
