//! What people who write handlers see: a [`Handler`], the [`Context`] of one run, and its [`Outcome`].
//!
//! The lowest floor of the engine: it knows no claim, no lease, no stream and no statement of the protocol. What a handler says reaches
//! the engine over two small types of its own, [`RunLink`] and [`Reporter`].

mod batch;
mod context;
mod handler;
mod outcome;
mod reporter;

pub use self::{
    context::Context,
    handler::Handler,
    outcome::{Effect, Failure, Outcome, Success},
};
pub(crate) use self::{
    context::RunLink,
    reporter::{BATCH_MAX, LINES_MAX, Line, Reporter, Reports},
};
