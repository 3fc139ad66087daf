//! Claim: from a hint, or straight from Postgres, to a job in hand.
//!
//! Invariant: nothing starts that Postgres did not confirm as available at the hinted epoch. First delivery is one SELECT; every
//! redelivery has raised the epoch before it gets here (`rehand`).
//!
//! No entry is ever claimed from another consumer: XCLAIM and XACK check no owner. Takeover, a
//! reader's own pending list after a reconnect, rescue and reconcile all end in `rehand`, which
//! makes a new parcel; the old entry is acknowledged. A late XACK is harmless, because the epoch
//! decides.

/// The row of `lease` for a job that has just been taken, behind `INSERT … SELECT`. Where there is one already, it is of an earlier hand-out: a
/// re-hand that waits for a lease statement removes the job's lease as it was before.
macro_rules! over_stale_lease {
    () => {
        " ON CONFLICT (job_id) DO UPDATE SET worker_id = excluded.worker_id, epoch = excluded.epoch, cancel = false, started = false,
            progress = NULL, progress_note = NULL, leased_at = excluded.leased_at WHERE lease.epoch < excluded.epoch"
    };
}
pub(crate) use over_stale_lease;

pub(crate) mod ack;
pub(crate) mod added;
pub(crate) mod direct;
pub(crate) mod group;
pub(crate) mod order;
pub(crate) mod put_back;
pub(crate) mod reader;
pub(crate) mod rows;
