//! Requests that leave the machine on behalf of jobs, and the object store; nothing else.
//!
//! Every outgoing request of a worker goes through [`OutboundClient`]. It refuses addresses that are
//! not public unless the operator listed them, connects only to addresses it has vetted itself, never
//! follows a redirect or a proxy, and stops at a deadline and at a byte cap.
//!
//! In reading order: which addresses are public ([`address`]), what the operator allows ([`allow`]),
//! the check of a URL and of what its name resolves to ([`guard`]), the client ([`client`]), what is
//! sent and what came back ([`request`]), what to do about it ([`classify`](mod@classify)), and how long
//! the server asks us to wait ([`retry_after`]). [`objects`] are files, which may lie elsewhere too. What must not be stored of a reply is `common::redact`'s business.
//!
//! It knows nothing of jobs, queues or databases: callers translate a [`ReplyClass`] into an outcome.

pub mod address;
pub mod allow;
pub mod guard;

pub mod client;
pub mod request;

pub mod classify;
pub mod error;
pub mod retry_after;

pub mod objects;

#[cfg(any(test, feature = "testing"))]
pub mod test_server;

pub use allow::{AllowList, AllowListError};
pub use classify::{ReplyClass, classify};
pub use client::{OutboundClient, OutboundPolicy};
pub use error::OutboundError;
pub use request::{OutboundReply, OutboundRequest, parse_headers, parse_method};
