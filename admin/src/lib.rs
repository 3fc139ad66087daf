//! The `millstream` command and the HTTP API: what people and programs outside use.
//!
//! Both are thin: [`cli`] and [`api`] translate between the outside and [`ops`], where the statements are. `samples` serve
//! `millstream dev` and the tests.
//!
//! Knows nothing of how jobs are claimed or settled; that is `millstream_worker`.

pub mod api;
pub mod cli;
pub mod ops;

pub mod samples;
