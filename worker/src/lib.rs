//! Run Millstream jobs: the engine, and a program around handlers.
//!
//! The way of a job here: [`claim`](self) (from a hint to a job in hand) → `run` (slot, handler, outcome) → `settle` (outcome to fact)
//! → observe (`report`, `health`, metrics). Beside it `heartbeat` (alive), `lease` (longer than 200 ms) and `duties`
//! (housekeeping, recovery).
//!
//! Knows nothing of producers; only `program` and `listen` know requests and command lines. Correctness lives in statements guarded by id, epoch and state;
//! everything in memory here may be lost at any line.

mod claim;
mod run;
mod settle;

mod api;
mod job;

mod capacity;
mod contact;
mod duties;
mod hand_back;
mod health;
mod heartbeat;
mod lease;
#[cfg(feature = "main")]
pub mod listen;
mod memory;
mod pauses;
#[cfg(feature = "main")]
pub mod program;
mod pulse;
mod queues;
mod registry;
mod report;
mod shared;
#[cfg(feature = "testing")]
pub mod testing;
mod tries;
mod worker;

pub use millstream_common::{
    config::Config,
    error::{Error, Outage, Refusal},
    id::{BatchId, JobId},
    job::{NewJob, Priority},
    metrics::Metrics,
    pg::{GuardedPool, Lent},
    retry::RetryPolicy,
};
// The same sqlx as the engine's: connections and effects are of its types.
pub use sqlx;

#[cfg(feature = "main")]
pub use self::program::{Program, worker_main, worker_main_with};

pub use self::{
    api::{Context, Effect, Failure, Handler, Outcome, Success},
    health::{Health, Readiness},
    run::child::inside::ChildProcess,
    worker::{Parts, Worker},
};
