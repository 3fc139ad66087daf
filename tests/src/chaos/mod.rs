//! Chaos: an installation under load, faults one after another, and a judge that trusts neither store.
//!
//! The way of a run: [`fleet`] starts servers, producers and workers; producers ([`produce`]) and handlers ([`handlers`]) write
//! [`journal`]s outside Postgres and Redis; the runner ([`run`]) injects the cases of the [`catalogue`] and watches the work
//! flow again ([`flow`]); in the end the [`judge`] compares journals and tables ([`witness`]) and the [`report`] tells.
//!
//! To add a case: one `async fn(&Fleet, &mut Rng) -> anyhow::Result<()>` that injects and heals, and one line in the list of
//! [`catalogue::all`].

pub mod catalogue;
pub mod door;
pub mod fleet;
pub mod flow;
pub mod handlers;
pub mod journal;
pub mod judge;
pub mod probes;
pub mod produce;
pub mod report;
pub mod rng;
pub mod run;
pub mod timeline;
pub mod witness;
pub mod workload;
