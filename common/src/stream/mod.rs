//! The Redis side of the agreement: keys, the form of an entry, publishing, and the connection with its health.
//!
//! Invariant: nothing here is the truth. Entries may be lost, repeated, reordered or forged at any time.

pub mod entry;
pub mod keys;
pub mod link;
pub mod mending;
pub mod policy;
pub mod probe;
pub mod publish;
mod refused;
pub mod remedy;
pub mod wire;

/// The consumer group of every work stream.
pub const GROUP: &str = "workers";
