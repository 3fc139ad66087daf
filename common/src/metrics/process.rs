//! `process_*`: what the kernel says of this process, read at each scrape. Linux only.
//!
//! The client library has these too; its reader of `/proc` would be two more crates, and counts whole seconds.

use std::fs;

use prometheus::{
    Counter, IntGauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Fields of `/proc/self/stat` behind the name, as proc(5) numbers them, less 3.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const STARTED_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// See the module.
pub(super) struct Process {
    cpu_seconds: Counter,
    max_fds: IntGauge,
    open_fds: IntGauge,
    resident_bytes: IntGauge,
    start_seconds: IntGauge,
    threads: IntGauge,
    virtual_bytes: IntGauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let process = Self {
            cpu_seconds: Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            ))?,
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            )?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            resident_bytes: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            start_seconds: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
            threads: gauge("process_threads", "Number of OS threads in the process.")?,
            virtual_bytes: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            )?,
        };
        // Once: the kernel derives the moment from a clock that may be set, and an alert counts its changes.
        let started = stat().get(STARTED_TICKS).copied().zip(booted());
        if let Some((ticks, booted)) = started {
            let start = booted + ticks / clock_ticks_per_second().max(1);
            process.start_seconds.set(start as i64);
        }
        Ok(process)
    }

    fn all(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu_seconds,
            &self.max_fds,
            &self.open_fds,
            &self.resident_bytes,
            &self.start_seconds,
            &self.threads,
            &self.virtual_bytes,
        ]
    }

    /// What cannot be listed keeps its last value.
    fn read(&self) {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        self.max_fds.set(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the listing itself.
            self.open_fds.set((open.count() as i64 - 1).max(0));
        }
        self.read_stat(&stat());
    }

    fn read_stat(&self, fields: &[u64]) {
        let field = |nth: usize| fields.get(nth).copied().unwrap_or(0);
        let ticks = clock_ticks_per_second().max(1);
        let cpu = (field(USER_TICKS) + field(SYSTEM_TICKS)) as f64 / ticks as f64;
        let more = cpu - self.cpu_seconds.get();
        self.cpu_seconds.inc_by(more.max(0.0));
        self.threads.set(field(THREADS) as i64);
        self.virtual_bytes.set(field(VIRTUAL_BYTES) as i64);
        let resident = field(RESIDENT_PAGES) * page_size() as u64;
        self.resident_bytes.set(resident as i64);
    }
}

/// The fields of `/proc/self/stat` behind the name; none if it cannot be read.
fn stat() -> Vec<u64> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name stands in parentheses and may hold spaces and parentheses itself.
    stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| {
        let numbers = rest.split_whitespace();
        numbers.map(|field| field.parse().unwrap_or(0)).collect()
    })
}

/// When the machine started, in seconds of the epoch.
fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}
