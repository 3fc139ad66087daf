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
pub(crate) mod entry;
pub(crate) mod group;
pub(crate) mod hold;
pub(crate) mod order;
pub(crate) mod put_back;
pub(crate) mod reader;
pub(crate) mod rows;

use std::{sync::Arc, time::Instant};

use crate::{capacity::Taken, held::InHand, registry::Registered, shared::Queue};

use self::hold::Hold;

/// A job in hand, ready to run. On the heap: it goes through many hands.
pub(crate) type Claimed = Box<ClaimedJob>;

pub(crate) struct ClaimedJob {
    pub(crate) hold: Arc<Hold>,
    /// Both give back when the job leaves this process.
    #[expect(dead_code, reason = "guards")]
    pub(crate) guards: (InHand, Taken),
    pub(crate) kind: Arc<Registered>,
    pub(crate) queue: Queue,
    pub(crate) tenant_id: i32,
    pub(crate) attempt: i16,
    pub(crate) max_attempts: i16,
    pub(crate) stage_id: Option<i64>,
    pub(crate) payload: String,
    pub(crate) trace: Option<String>,
    /// Crashes counted against it so far.
    pub(crate) crashes: i16,
    /// When Postgres was asked whether it may start: what was closed before is known to its answer.
    pub(crate) asked_at: Instant,
}

impl ClaimedJob {
    /// It was in hand when a worker died: it runs in a process of its own.
    pub(crate) fn is_isolated(&self) -> bool {
        self.crashes > 0
    }
}
