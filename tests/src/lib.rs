//! The harness of the end-to-end tests: a real Postgres and Redis, one database and one key prefix per test.
//!
//! Tests wait for states with a bound ([`eventually`]), never for time. Faults to inject are in [`faults`].

pub mod ask;
pub mod chaos;
pub mod faults;
pub mod lab;
pub mod process;
pub mod served;
pub mod servers;
pub mod starts;
pub mod supervise;
pub mod wait;

pub use self::{
    faults::{Clock, Fault, Links, Proxy},
    lab::Lab,
    process::Process,
    served::Served,
    starts::Starts,
    wait::eventually,
};
