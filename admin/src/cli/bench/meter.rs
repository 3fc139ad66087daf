//! What a stretch of work has cost: CPU time by process from `/proc`, WAL by Postgres' own count.
//!
//! `/proc` counts in ticks of 10 ms: of a few thousand jobs it says little. A server is metered with all its children; what a child used that has ended is in its parent's account. Servers that somebody else
//! runs are not seen.

use std::{collections::HashMap, fs, time::Instant};

use super::{
    super::{CommandError, Invocation},
    crew::Crew,
    row::{Cpu, Row},
    site::Site,
};

const US_PER_S: f64 = 1e6;

/// Seconds of CPU time up to a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    postgres: Option<f64>,
    redis: Option<f64>,
    worker: Option<f64>,
    producer: Option<f64>,
}

/// Running since `start`.
pub(super) struct Meter<'a> {
    site: &'a Site,
    crew: Option<&'a Crew>,
    used: Used,
    wal: f64,
    start: Instant,
}

impl<'a> Meter<'a> {
    pub(super) async fn start(
        site: &'a Site,
        crew: Option<&'a Crew>,
    ) -> Result<Self, CommandError> {
        let wal = wal_bytes(site.context()).await?;
        Ok(Self {
            site,
            crew,
            used: used(site, crew),
            wal,
            start: Instant::now(),
        })
    }

    /// The figure of `jobs` since the start.
    pub(super) async fn stop(self, name: &'static str, jobs: u64) -> Result<Row, CommandError> {
        let seconds = self.start.elapsed().as_secs_f64();
        let (before, after) = (self.used, used(self.site, self.crew));
        let wal = wal_bytes(self.site.context()).await? - self.wal;
        let per_job = |before: Option<f64>, after: Option<f64>| {
            Some((after? - before?).max(0.0) * US_PER_S / jobs as f64)
        };
        let parts = [
            per_job(before.postgres, after.postgres),
            per_job(before.redis, after.redis),
            per_job(before.worker, after.worker),
            per_job(before.producer, after.producer),
        ];
        let [postgres, redis, worker, producer] = parts;
        let seen = postgres.is_some() && redis.is_some();
        let total = seen.then(|| parts.iter().flatten().sum());
        Ok(Row {
            name,
            jobs_per_s: Some(jobs as f64 / seconds),
            cpu_us_per_job: Cpu {
                postgres,
                redis,
                worker,
                producer,
                total,
            },
            wal_bytes_per_job: Some(wal / jobs as f64),
            memory_mb: self.crew.and_then(Crew::peak_mb),
            ..Row::default()
        })
    }
}

fn used(site: &Site, crew: Option<&Crew>) -> Used {
    let processes = processes();
    let pids = site.pids();
    let of_tree = |root: Option<u32>| root.and_then(|root| tree_seconds(&processes, root));
    Used {
        postgres: of_tree(pids.postgres),
        redis: of_tree(pids.redis),
        worker: crew.map(|crew| {
            crew.pids()
                .iter()
                .filter_map(|pid| tree_seconds(&processes, *pid))
                .sum()
        }),
        producer: processes
            .get(&std::process::id())
            .map(|process| process.own),
    }
}

/// One line of `/proc`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Process {
    parent: u32,
    /// Seconds that it used itself.
    own: f64,
    /// Seconds of its children that have ended.
    ended: f64,
}

fn processes() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        Some((
            pid,
            parsed(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
        ))
    })
    .collect()
}

/// `man 5 proc_pid_stat`: fields 4 and 14 to 17. The name in brackets may hold anything.
fn parsed(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |nth: usize| {
        Some(
            fields.get(nth - 3)?.parse::<f64>().ok()?
                / rustix::param::clock_ticks_per_second() as f64,
        )
    };
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(14)? + ticks(15)?,
        ended: ticks(16)? + ticks(17)?,
    })
}

/// Of a process and all below it; none if there is no such process.
fn tree_seconds(processes: &HashMap<u32, Process>, root: u32) -> Option<f64> {
    let process = processes.get(&root)?;
    let children = processes
        .iter()
        .filter(|(_, child)| child.parent == root)
        .filter_map(|(pid, _)| tree_seconds(processes, *pid));
    Some(process.own + process.ended + children.sum::<f64>())
}

/// The most memory that a process ever had.
pub(super) fn peak_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kb: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kb / 1024.0)
}

async fn wal_bytes(context: &Invocation) -> Result<f64, CommandError> {
    let query =
        sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8");
    let pg = context.pg().await?;
    Ok(pg.main("reading the WAL position").one(query).await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_its_name() {
        let line = "7 (a) b) S 3 7 7 0 -1 4 0 0 0 0 200 100 50 0 20 0 1 0 5 6 7";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(
            parsed(line),
            Some(Process {
                parent: 3,
                own: 300.0 / ticks,
                ended: 50.0 / ticks
            })
        );
        assert_eq!(parsed("7 (a"), None);
    }

    #[test]
    fn a_tree_has_what_its_members_used_and_what_those_used_that_ended() {
        let process = |parent, own, ended| Process { parent, own, ended };
        let all = HashMap::from([
            (1, process(0, 1.0, 2.0)),
            (2, process(1, 4.0, 0.0)),
            (3, process(2, 8.0, 16.0)),
            (9, process(0, 99.0, 0.0)),
        ]);
        assert_eq!(tree_seconds(&all, 1), Some(31.0));
        assert_eq!(tree_seconds(&all, 7), None);
    }

    #[test]
    fn this_process_has_used_some_time_and_memory() {
        assert!(processes().contains_key(&std::process::id()));
        assert!(peak_mb(std::process::id()).unwrap() > 1.0);
    }
}
