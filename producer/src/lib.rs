//! Enqueue jobs into Millstream from a Rust service.
//!
//! A job exists exactly if its transaction commits; an enqueue that was answered OK is never lost, with or without Redis.
//! The way of a job here: [`Producer::enqueue`] → [`coalesce`](self) (callers that wait together share one INSERT) → persist
//! (`millstream_common::persist`) → publish (best effort, after COMMIT).
//!
//! Knows nothing of workers or handlers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use millstream_producer::{NewJob, Producer};
//!
//! let producer = Producer::connect("postgres://localhost/app", "redis://localhost").await?;
//! let job = producer.enqueue(NewJob::new("echo", r#"{"a":1}"#)).await?;
//! println!("{} {}", job.id, job.state);
//! # Ok(())
//! # }
//! ```

mod batch;
mod coalesce;
mod enqueue;
mod lend;
mod producer;
mod publish;
mod typed;
mod write;

pub use millstream_common::{
    batch::{BatchState, NewBatch, Next},
    error::{Error, Outage, Refusal},
    id::{BatchId, JobId},
    job::{NewJob, Priority},
    persist::Enqueued,
};

pub use self::{
    producer::{Parts, Producer},
    typed::JobKind,
};
