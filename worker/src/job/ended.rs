//! A run that is over and not settled yet.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Claimed, RowState};
use crate::api::Outcome;

/// A run that has ended.
pub(crate) struct Ended {
    pub(crate) job: Claimed,
    pub(crate) from: RowState,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) ran: Duration,
    pub(crate) outcome: Outcome,
}
