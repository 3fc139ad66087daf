//! Claim: from a hint, or straight from Postgres, to a job in hand.
//!
//! Invariant: nothing starts that Postgres did not confirm as available at the hinted epoch. First delivery is one SELECT; every
//! redelivery has raised the epoch before it gets here (`rehand`).
//!
//! No entry is ever claimed from another consumer: XCLAIM and XACK check no owner. Takeover, a
//! reader's own pending list after a reconnect, rescue and reconcile all end in `rehand`, which
//! makes a new parcel; the old entry is acknowledged. A late XACK is harmless, because the epoch
//! decides.

pub(crate) mod ack;
pub(crate) mod added;
mod batch;
pub(crate) mod direct;
pub(crate) mod group;
pub(crate) mod order;
pub(crate) mod put_back;
pub(crate) mod reader;
pub(crate) mod rows;
