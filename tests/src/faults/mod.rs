//! Faults that tests inject into real servers, processes and the links between them. Nothing here needs root unless it says so.
//!
//! Invariants: a fault applies from the moment it is set, also to connections that are open; healing undoes it; whatever is random
//! follows from a seed. It does not know what is tested.

pub mod clock;
pub mod links;
pub mod machine;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod rights;

pub use self::{
    clock::Clock,
    links::Links,
    proxy::{Fault, Proxy},
};
