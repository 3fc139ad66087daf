//! The agreement between all parts of Millstream: what a job is, which states it may pass, how it is written to
//! Postgres and announced on Redis streams.
//!
//! Postgres decides, Redis hurries: a stream entry is only a hint that somebody should ask Postgres about some jobs.
//!
//! This crate runs no jobs, serves no requests and reads no command line; `producer`, `worker` and `admin` do.
//!
//! Reading order: [`job`] and [`state`] (what), [`persist`] (written), [`stream`] (announced), [`rehand`] (handed out
//! again), then the tools: [`pg`], [`config`], [`catalog`], [`retry`], [`metrics`], [`limits`], [`redact`], [`printable`].

pub mod job;
pub mod state;

pub mod persist;
pub mod rehand;
pub mod stream;

pub mod batch;
pub mod breaker;
pub mod catalog;
pub mod clock;
pub mod closed;
pub mod config;
pub mod documents;
pub mod error;
pub mod failpoint;
pub mod held;
pub mod host;
pub mod id;
pub mod json;
pub mod limits;
pub mod metrics;
pub mod pg;
pub mod printable;
pub mod reconnect;
pub mod redact;
pub mod retry;
pub mod seldom;
pub mod shortage;
pub mod tasks;
