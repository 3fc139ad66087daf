//! Nothing is lost and nothing has two outcomes, whatever dies: workers, Redis and what it held, Postgres, the producer.
//!
//! A completed attempt is counted by the statement that accepts its outcome, so `attempt = 1` everywhere at the end says
//! that each job has had exactly one.

#[path = "recovery/crashes.rs"]
mod crashes;
#[path = "recovery/deaths.rs"]
mod deaths;
#[path = "recovery/dev.rs"]
mod dev;
#[path = "recovery/doors.rs"]
mod doors;
#[path = "recovery/downstream.rs"]
mod downstream;
#[path = "recovery/hints.rs"]
mod hints;
#[path = "recovery/isolation.rs"]
mod isolation;
#[path = "recovery/long_outages.rs"]
mod long_outages;
#[path = "recovery/outages.rs"]
mod outages;
#[path = "recovery/runs.rs"]
mod runs;
#[path = "recovery/streams.rs"]
mod streams;
