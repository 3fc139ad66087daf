//! Options that say which jobs are meant, and which page of them.

use chrono::{DateTime, Utc};
use clap::Args;
use millstream_common::{id::JobId, state::State};

use super::time;
use crate::ops::{PAGE_ROWS, jobs::Filter};

/// Which jobs are meant.
#[derive(Debug, Clone, Args)]
pub(super) struct FilterArgs {
    /// Any of these states, comma separated
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    state: Vec<State>,
    #[command(flatten)]
    names: NameArgs,
}

/// Which jobs are meant, where the state is known already.
#[derive(Debug, Clone, Args)]
pub(super) struct NameArgs {
    /// Of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Enqueued since: RFC 3339, or a distance such as 15m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = time::ago)]
    since: Option<DateTime<Utc>>,
}

/// Which page.
#[derive(Debug, Clone, Args)]
pub(super) struct PageArgs {
    /// Rows on a page, 500 at most
    #[arg(long, default_value_t = PAGE_ROWS, value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::ops::PAGE_ROWS_MAX)))]
    pub(super) limit: u32,
    /// The page after this id, which is the last one of the page before
    #[arg(long, value_name = "ID")]
    pub(super) cursor: Option<JobId>,
}

impl FilterArgs {
    pub(super) fn into_filter(self) -> Filter {
        Filter {
            states: self.state,
            ..self.names.into_filter()
        }
    }
}

impl NameArgs {
    pub(super) fn into_filter(self) -> Filter {
        Filter {
            states: Vec::new(),
            queue: self.queue,
            kind: self.kind,
            tenant: self.tenant,
            since: self.since,
        }
    }
}
