//! Cancel and retry: the moves that people make, for given jobs or for all that a filter means, in bounded steps.
//!
//! Each step is one guarded, audited statement of the schema, so a move that is cut short has moved whole jobs only.

use std::collections::{HashMap, HashSet};

use millstream_common::{id::JobId, pg::Pg, state::State};
use serde::Serialize;

use super::{Error, Outage, jobs, jobs::Filter, rows};

/// Jobs moved by one statement: as many as one parcel announces.
pub const STEP_JOBS: u32 = 500;
/// A dry run looks at this many jobs at most; beyond it says "more than".
pub const DRY_RUN_JOBS_MAX: u32 = 10_000;

/// What is to be done with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Not final becomes cancelled. A running job is told at its worker's next beat, and whatever its handler still
    /// returns is refused by the raised epoch.
    Cancel,
    /// Put off becomes available at once; dead too (a redrive), with its attempts starting anew and its errors kept.
    Retry,
}

/// What became of one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Which job.
    pub id: JobId,
    /// It was moved.
    pub done: bool,
    /// Where it stands now; `null`: there is no such job.
    pub state: Option<State>,
}

impl Move {
    /// The states from which it is possible, in groups that are cheap to list each by itself.
    fn groups(self) -> &'static [&'static [State]] {
        match self {
            Self::Cancel => &[
                PUT_OFF,
                &[State::Running],
                &[State::Available, State::Waiting],
            ],
            Self::Retry => &[PUT_OFF, &[State::Dead]],
        }
    }

    /// "cancelled" or "available": where moved jobs are.
    pub fn target(self) -> State {
        match self {
            Self::Cancel => State::Cancelled,
            Self::Retry => State::Available,
        }
    }

    /// Moves these jobs; says for each what became of it, in the order asked.
    pub async fn each(self, pg: &Pg, ids: &[JobId], actor: &str) -> Result<Vec<Moved>, Outage> {
        let mut moved = HashSet::new();
        for step in ids.chunks(STEP_JOBS as usize) {
            moved.extend(self.step(pg, step, actor).await?);
        }
        let states = states(pg, ids).await?;
        Ok(ids
            .iter()
            .map(|id| Moved {
                id: *id,
                done: moved.contains(id),
                state: states.get(id).copied(),
            })
            .collect())
    }

    /// Moves whatever the filter means, newest first. Returns how many.
    pub async fn all(self, pg: &Pg, filter: &Filter, actor: &str) -> Result<u64, Error> {
        let mut done = 0;
        for filter in self.narrowed(filter) {
            let mut cursor = None;
            loop {
                let ids = jobs::ids(pg, &filter, STEP_JOBS, cursor).await?;
                let Some(last) = ids.last() else { break };
                cursor = Some(*last);
                done += self.step(pg, &ids, actor).await?.len() as u64;
            }
        }
        Ok(done)
    }

    /// How many jobs [`Move::all`] would move now, and whether that number is only a lower bound.
    pub async fn dry_run(self, pg: &Pg, filter: &Filter) -> Result<(u32, bool), Error> {
        let mut found = 0;
        for filter in self.narrowed(filter) {
            found += jobs::ids(pg, &filter, DRY_RUN_JOBS_MAX + 1, None)
                .await?
                .len() as u32;
        }
        Ok((found.min(DRY_RUN_JOBS_MAX), found > DRY_RUN_JOBS_MAX))
    }

    /// The filter for each group of states that it does not leave out.
    fn narrowed(self, filter: &Filter) -> Vec<Filter> {
        let wanted = |s: &State| filter.states.is_empty() || filter.states.contains(s);
        let groups = self.groups().iter().map(|group| {
            group
                .iter()
                .copied()
                .filter(|s| wanted(s))
                .collect::<Vec<_>>()
        });
        groups
            .filter(|states| !states.is_empty())
            .map(|states| Filter {
                states,
                ..filter.clone()
            })
            .collect()
    }

    pub(super) async fn step(
        self,
        pg: &Pg,
        ids: &[JobId],
        actor: &str,
    ) -> Result<Vec<JobId>, Outage> {
        let (op, sql) = match self {
            Self::Cancel => ("cancelling", "SELECT * FROM millstream.cancel($1, $2)"),
            Self::Retry => ("retrying", "SELECT * FROM millstream.retry_now($1, $2)"),
        };
        let query = sqlx::query_as::<_, (JobId,)>(sql).bind(ids).bind(actor);
        Ok(rows(pg, op, query)
            .await?
            .into_iter()
            .map(|(id,)| id)
            .collect())
    }
}

/// The states of jobs that have a `ready_at`, which is indexed.
const PUT_OFF: &[State] = &[State::Scheduled, State::Retryable, State::RateLimited];

/// The states of the jobs that exist.
pub async fn states(pg: &Pg, ids: &[JobId]) -> Result<HashMap<JobId, State>, Outage> {
    let query = sqlx::query_as::<_, (JobId, i16)>(
        "SELECT id, state FROM millstream.job WHERE id = ANY($1)",
    )
    .bind(ids);
    let rows = rows(pg, "reading states", query).await?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, state)| Some((id, State::from_number(state)?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_tried_exactly_from_the_states_that_allow_it() {
        // F2
        for (action, to) in [
            (Move::Cancel, State::Cancelled),
            (Move::Retry, State::Available),
        ] {
            for state in action.groups().iter().copied().flatten() {
                assert!(state.may_become(to), "{state} to {to}");
            }
        }
    }

    #[test]
    fn a_filter_on_final_states_leaves_nothing_to_cancel() {
        let filter = Filter {
            states: vec![State::Completed],
            ..Filter::default()
        };
        assert!(Move::Cancel.narrowed(&filter).is_empty());
        let dead = Filter {
            states: vec![State::Dead],
            ..Filter::default()
        };
        assert_eq!(Move::Retry.narrowed(&dead).len(), 1);
    }
}
