//! Tests of handlers and of what enqueues for them. Feature `testing`; for `[dev-dependencies]`.
//!
//! [`Run`] runs one handler once, without a server. [`TestBed`] is an installation of the test's own on a real Postgres and
//! Redis: it says what was enqueued, works it off, and shifts scheduled jobs in time.
//!
//! Everything here fails by panicking, as a test does.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

mod bed;
mod database;
mod inline;

pub use self::{
    bed::{Drained, TestBed},
    inline::{Ran, Run},
};
