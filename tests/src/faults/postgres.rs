//! What can go wrong with a Postgres: sessions that end, tables that are locked, connections that are all taken, and processes that freeze.

use std::{fs, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use millstream_local::LocalServices;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::random::Random;
use crate::Lab;

/// More than any server here allows.
const CONNECTIONS_MAX: usize = 1_000;
/// The begin of a session: protocol 3.0, as user `a`.
const START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

async fn connect(lab: &Lab) -> PgConnection {
    PgConnection::connect(lab.config.database.url.expose())
        .await
        .expect("Postgres answers")
}

/// Ends one of the sessions in this lab's database, never the one that asks; `None` if there is no other.
pub async fn terminate_random_backend(lab: &Lab, random: &mut Random) -> Option<i32> {
    let mut conn = connect(lab).await;
    let others: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid",
    )
    .fetch_all(&mut conn)
    .await
    .expect("a look at the sessions");
    let chosen = *others.get(random.below(others.len().max(1) as u64) as usize)?;
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(chosen)
        .execute(&mut conn)
        .await
        .expect("the session is told to end");
    Some(chosen)
}

/// Holds a table in the strongest mode for so long.
pub async fn lock_table(lab: &Lab, table: &'static str, duration: Duration) {
    let mut conn = connect(lab).await;
    let mut tx = conn.begin().await.expect("a transaction");
    let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    tx.execute(sqlx::AssertSqlSafe(lock))
        .await
        .expect("the lock");
    tokio::time::sleep(duration).await;
    tx.rollback().await.expect("the lock is let go");
}

/// A stranger who takes every connection that is free, until he is dropped, or for the minute that the server waits for his
/// password: a session has its place before it is known whose it is.
pub struct Stranger(Vec<TcpStream>);

impl Stranger {
    /// Takes them all, those for administrators too.
    pub async fn exhaust_connections(lab: &Lab) -> Self {
        let options =
            PgConnectOptions::from_str(lab.config.database.url.expose()).expect("a Postgres URL");
        let mut taken = Vec::new();
        loop {
            let mut conn = TcpStream::connect((options.get_host(), options.get_port()))
                .await
                .expect("Postgres listens");
            conn.write_all(START).await.expect("Postgres reads");
            // `R`: it asks for the password. `E`: too many clients.
            if conn.read_u8().await.ok() != Some(b'R') {
                return Self(taken);
            }
            taken.push(conn);
            assert!(taken.len() < CONNECTIONS_MAX, "Postgres knows no limit");
        }
    }

    /// How many he has.
    pub fn connections(&self) -> usize {
        self.0.len()
    }
}

/// All processes of a private Postgres, stopped in the middle of what they did; they go on when this is dropped.
pub struct Frozen(Vec<Pid>);

impl Frozen {
    /// The postmaster first, so that no new session begins meanwhile.
    pub fn freeze(servers: &LocalServices) -> Result<Self> {
        let postmaster = servers
            .pids()
            .postgres
            .context("the private Postgres does not run")?;
        let postmaster = Pid::from_raw(postmaster as i32).context("a process id")?;
        let mut frozen = Self(vec![postmaster]);
        kill_process(postmaster, Signal::STOP)?;
        for child in children_of(postmaster)? {
            frozen.0.push(child);
            // It may have ended since it was listed.
            let _ = kill_process(child, Signal::STOP);
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in self.0.iter().rev() {
            let _ = kill_process(*process, Signal::CONT);
        }
    }
}

fn children_of(parent: Pid) -> Result<Vec<Pid>> {
    let parent = parent.as_raw_pid().to_string();
    let numbers = fs::read_dir("/proc").context("processes are listed in /proc, on Linux only")?;
    let numbers = numbers
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        // `PID (NAME) STATE PARENT …`, and a name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1))
            == Some(&parent)
    };
    Ok(numbers.filter(is_child).filter_map(Pid::from_raw).collect())
}
