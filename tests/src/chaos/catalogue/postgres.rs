//! Faults of the Postgres server: its sessions ended, restarted, stopped, frozen, locked, full.

use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_local::{LocalServices, PostgresStop};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, Executor};
use tokio::time::{Instant, sleep};

use crate::chaos::{fleet::Fleet, rng::Rng};

/// More than any setting of `max_connections` in a run.
const CONNECTIONS_MAX: usize = 400;

/// F34
pub(super) async fn terminated(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    fleet
        .timeline
        .note("pg_terminate_backend of any session, every 100 ms for 10 s");
    let mut conn = fleet.postgres().await?;
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let sessions = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'chaos' ORDER BY pid";
        let pids: Vec<i32> = sqlx::query_scalar(sessions).fetch_all(&mut conn).await?;
        if !pids.is_empty() {
            sqlx::query("SELECT pg_terminate_backend($1)")
                .bind(rng.pick(&pids))
                .execute(&mut conn)
                .await?;
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// F35
pub(super) async fn restarted(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..2 {
        fleet.timeline.note("postgres restarts immediately");
        fleet
            .servers(|services| services.restart_postgres(PostgresStop::Immediate))
            .await?;
        sleep(Duration::from_millis(4000 + rng.below(2000))).await;
    }
    Ok(())
}

/// F36
pub(super) async fn stopped(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet.timeline.note("postgres is stopped for three leases");
    fleet
        .servers(|services| services.stop_postgres(PostgresStop::Immediate))
        .await?;
    sleep(3 * fleet.settings.lease).await;
    fleet.servers(LocalServices::start_postgres).await
}

/// X21: what is read is answered, and nothing is written.
pub(super) async fn read_only(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet
        .timeline
        .note("postgres takes no writes for two leases");
    take_writes(fleet, false).await?;
    sleep(2 * fleet.settings.lease).await;
    take_writes(fleet, true).await
}

/// From the next transaction of every session on.
async fn take_writes(fleet: &Fleet, takes: bool) -> Result<()> {
    let mut conn = fleet.postgres().await?;
    conn.execute(if takes {
        "ALTER SYSTEM RESET default_transaction_read_only"
    } else {
        "ALTER SYSTEM SET default_transaction_read_only = on"
    })
    .await?;
    conn.execute("SELECT pg_reload_conf()").await?;
    Ok(())
}

/// F37
pub(super) async fn frozen(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet.timeline.note("SIGSTOP to all backends for 10 s");
    signal_backends(fleet, Signal::STOP).await?;
    sleep(Duration::from_secs(10)).await;
    signal_backends(fleet, Signal::CONT).await
}

async fn signal_backends(fleet: &Fleet, signal: Signal) -> Result<()> {
    let send = move |services: &LocalServices| {
        let postmaster = services.pids().postgres.context("postgres does not run")?;
        for pid in children(postmaster)? {
            // It may have ended since.
            let _ = kill_process(Pid::from_raw(pid).context("no process id")?, signal);
        }
        Ok(())
    };
    fleet.servers(send).await
}

/// Processes whose parent this is.
fn children(parent: u32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which is in brackets and may hold anything: state, parent.
        let of = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        found.extend((of == Some(parent)).then_some(pid));
    }
    Ok(found)
}

/// F40
pub(super) async fn locked(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet.timeline.note("LOCK TABLE job for 10 s");
    let mut conn = fleet.postgres().await?;
    let mut transaction = conn.begin().await?;
    transaction
        .execute("LOCK TABLE millstream.job IN ACCESS EXCLUSIVE MODE")
        .await?;
    sleep(Duration::from_secs(10)).await;
    Ok(transaction.rollback().await?)
}

/// F42
pub(super) async fn crowded(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let mut held = Vec::new();
    let until = Instant::now() + Duration::from_secs(12);
    // Also what becomes free meanwhile is taken.
    while Instant::now() < until && held.len() < CONNECTIONS_MAX {
        match fleet.postgres().await {
            Ok(conn) => held.push(conn),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    fleet
        .timeline
        .note(&format!("a stranger held {} connections", held.len()));
    Ok(())
}

/// The server is there, goes on and takes writes.
pub(super) async fn healed(fleet: &Fleet) -> Result<()> {
    fleet
        .servers(|services| {
            if services.pids().postgres.is_none() {
                services.start_postgres()
            } else {
                Ok(())
            }
        })
        .await?;
    signal_backends(fleet, Signal::CONT).await?;
    take_writes(fleet, true).await
}
