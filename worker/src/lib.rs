//! Run Millstream jobs: the worker library and the built-in handlers.
//!
//! The way of a job here: [`claim`](self) (from a hint to a job in hand) → `run` (slot, handler, outcome) → `settle` (outcome to fact)
//! → observe (`report`, `health`, metrics). Beside it `heartbeat` (alive), `run::lessor` (longer than 200 ms) and `duties`
//! (housekeeping, recovery).
//!
//! Knows nothing of producers, requests or command lines. Correctness lives in statements guarded by id, epoch and state;
//! everything in memory here may be lost at any line.

mod claim;
mod run;
mod settle;

mod capacity;
mod context;
pub mod documents;
mod duties;
mod handler;
pub mod handlers;
mod health;
mod heartbeat;
mod held;
mod host;
mod memory;
pub mod models;
pub mod objects;
pub mod outbound;
mod outcome;
mod pauses;
mod pulse;
mod registry;
mod report;
mod shared;
mod worker;

pub use millstream_common::pg::{GuardedPool, Lent};

pub use self::{
    context::Context,
    handler::Handler,
    health::{Health, Readiness},
    outcome::{Effect, Failure, Outcome, Success},
    worker::{Parts, Worker},
};
