//! The harness of the end-to-end tests: a real Postgres and Redis, one database and one key prefix per test.
//!
//! Tests wait for states with a bound ([`eventually`]), never for time. Fault injection lives beside the tests that need it.

pub mod ask;
pub mod chaos;
pub mod lab;
pub mod process;
pub mod servers;
pub mod starts;
pub mod wait;

pub use self::{lab::Lab, process::Process, starts::Starts, wait::eventually};
