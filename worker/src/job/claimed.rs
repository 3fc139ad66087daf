//! A job from its claim to the end of its run.

use std::{sync::Arc, time::Instant};

use millstream_common::id::BatchId;

use super::{Hold, InHand};
use crate::{capacity::Taken, queues::Queue, registry::Registered};

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
    pub(crate) batch_id: Option<BatchId>,
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
