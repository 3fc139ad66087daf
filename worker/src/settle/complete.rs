//! Plain successes: one UPDATE per batch and starting state, with no answer but a count.
//!
//! No join: without statistics Postgres may join by reading the whole range of ids for each row of the batch. The ids are sorted,
//! and `width_bucket`, a binary search in a sorted array, says where in the other arrays a row's values are.
//!
//! What Postgres refuses to write is tried again in halves, until the outcome that it refuses is by itself: that job fails. Who must wait for
//! somebody else's transaction leaves the batch, and so does an outcome that is refused for another reason than what it is.
//!
//! Jobs of a batch of theirs are written apart from the others, by a statement that counts them in it at its end.
//!
//! Only when the count differs from the batch (a lost lease, or a repeated write after an unknown outcome) are the rows read
//! back to tell which were accepted.

use std::{collections::HashSet, sync::Arc};

use millstream_common::{
    error::{Outage, in_full},
    id::JobId,
    metrics::JobOutcome,
    persist::is_held,
    pg::Lent,
};
use sqlx::{Postgres, Row, postgres::PgArguments, query::Query};

use super::{Ended, Patience, conclude, fail, unwritable};
use crate::{job::RowState, shared::Shared};

/// Writes successes without effects. Returns those that must be tried again by themselves.
pub(crate) async fn settle(shared: &Arc<Shared>, batch: Vec<Ended>) -> Vec<Ended> {
    let (counted, plain): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|ended| ended.job.batch_id.is_some());
    let (mut left, counted) =
        futures::join!(settle_each(shared, plain), settle_each(shared, counted));
    left.extend(counted);
    left
}

/// Jobs that all have a batch, or all have none.
async fn settle_each(shared: &Arc<Shared>, jobs: Vec<Ended>) -> Vec<Ended> {
    let (short, leased): (Vec<_>, Vec<_>) = jobs
        .into_iter()
        .partition(|ended| ended.from == RowState::Available);
    let (mut left, leased) = futures::join!(
        settle_from(shared, short, RowState::Available),
        settle_from(shared, leased, RowState::Running)
    );
    left.extend(leased);
    left
}

async fn settle_from(shared: &Arc<Shared>, batch: Vec<Ended>, from: RowState) -> Vec<Ended> {
    let mut open = if batch.is_empty() {
        Vec::new()
    } else {
        vec![batch]
    };
    let mut left = Vec::new();
    while let Some(mut batch) = open.pop() {
        match write_patiently(shared, &Columns::of(&mut batch), from).await {
            Ok(accepted) => conclude_accepted(shared, batch, accepted.as_ref()).await,
            Err(outage) if is_held(&outage) => left.extend(batch),
            Err(outage) if !outage.may_be_of_one_row() => {
                tracing::warn!(jobs = batch.len(), error = %in_full(&outage), "outcomes were given up: their jobs are handed out again");
            }
            Err(_) if batch.len() > 1 => {
                let half = batch.split_off(batch.len() / 2);
                open.extend([batch, half]);
            }
            Err(outage) if outage.is_about_the_data() => {
                batch
                    .iter_mut()
                    .for_each(|ended| ended.outcome = Err(unwritable(&outage)));
                left.extend(fail::settle(shared, batch).await);
            }
            Err(_) => left.extend(batch),
        }
    }
    left
}

async fn conclude_accepted(shared: &Shared, batch: Vec<Ended>, accepted: Option<&HashSet<JobId>>) {
    let settled = batch.into_iter().map(|ended| {
        let ok = accepted.is_none_or(|ids| ids.contains(&ended.job.hold.id));
        (ended, ok, JobOutcome::Succeeded)
    });
    conclude(shared, settled.collect()).await;
}

/// Writes until Postgres has answered, if only that the batch is to be taken apart. On giving up, entries stay pending and leases expire.
async fn write_patiently(
    shared: &Shared,
    columns: &Columns,
    from: RowState,
) -> Result<Option<HashSet<JobId>>, Outage> {
    let mut patience = Patience::new(shared);
    loop {
        match write(shared, columns, from).await {
            Err(outage)
                if !is_held(&outage)
                    && !outage.may_be_of_one_row()
                    && patience.allows_another(&outage).await => {}
            answered => return answered,
        }
    }
}

/// The epochs of the batch, where the row `j` is found in it.
macro_rules! own_epoch {
    () => {
        "($2::int[])[width_bucket(j.id, $1)]"
    };
}

/// Sorted by id: see the module.
struct Columns {
    ids: Vec<JobId>,
    epochs: Vec<i32>,
    started_at: Vec<chrono::DateTime<chrono::Utc>>,
    /// None if no job of the batch has any: most have none, and each costs a search in every row.
    values: Option<Values>,
    /// Whether the jobs are counted in batches of theirs.
    are_counted: bool,
}

/// What successes bring with them.
struct Values {
    results: Vec<Option<String>>,
    tokens: Vec<Option<i32>>,
}

impl Values {
    fn of(batch: &[Ended], are_counted: bool) -> Option<Self> {
        let successes = || batch.iter().map(|ended| ended.outcome.as_ref().ok());
        let has_any = successes()
            .flatten()
            .any(|success| success.result.is_some() || success.tokens.is_some());
        // The statement that counts has one form.
        (has_any || are_counted).then(|| Self {
            results: successes().map(|s| s?.result.clone()).collect(),
            tokens: successes().map(|s| s?.tokens).collect(),
        })
    }
}

impl Columns {
    fn of(batch: &mut [Ended]) -> Self {
        batch.sort_unstable_by_key(|ended| ended.job.hold.id);
        let are_counted = batch.iter().any(|ended| ended.job.batch_id.is_some());
        Self {
            ids: batch.iter().map(|e| e.job.hold.id).collect(),
            epochs: batch.iter().map(|e| e.job.hold.epoch).collect(),
            started_at: batch.iter().map(|e| e.started_at).collect(),
            values: Values::of(batch, are_counted),
            are_counted,
        }
    }
}

/// `None`: all were accepted; else the ids that were.
async fn write(
    shared: &Shared,
    columns: &Columns,
    from: RowState,
) -> Result<Option<HashSet<JobId>>, Outage> {
    let lent = &mut shared.pg.hot("settling").await?;
    let count = match from {
        _ if columns.are_counted => complete_counted(lent, shared.worker_id, columns, from).await?,
        RowState::Available => complete_short(lent, shared.worker_id, columns).await?,
        RowState::Running => complete_leased(lent, shared.worker_id, columns).await?,
    };
    if count == columns.ids.len() as u64 {
        return Ok(None);
    }
    read_back(lent, shared.worker_id, columns).await.map(Some)
}

/// What a success sets in its row; with the values of the batch or without.
macro_rules! completed {
    () => {
        "state = 2, attempt = j.attempt + 1, worker_id = $4, finished_at = now(),
         started_at = ($3::timestamptz[])[width_bucket(j.id, $1)]"
    };
    (values) => {
        concat!(
            completed!(),
            ", result = ($7::text[])[width_bucket(j.id, $1)]
             , tokens_actual = ($8::int[])[width_bucket(j.id, $1)]"
        )
    };
}

macro_rules! complete_short {
    ($($values:ident)?) => {
        concat!(
            "UPDATE millstream.job j SET ",
            completed!($($values)?),
            " WHERE j.id = ANY($1) AND j.id BETWEEN $5 AND $6 AND j.state = 0",
            epoch_guard!(own_epoch!())
        )
    };
}

macro_rules! complete_leased {
    ($($values:ident)?) => {
        concat!(
            "WITH done AS (
               UPDATE millstream.job j SET ",
            completed!($($values)?),
            " WHERE j.id = ANY($1) AND j.id BETWEEN $5 AND $6 AND j.state = 1",
            epoch_guard!(own_epoch!()),
            " RETURNING j.id
             ), unleased AS (DELETE FROM millstream.lease USING done WHERE lease.job_id = done.id)
             SELECT count(*) FROM done"
        )
    };
}

/// Jobs first, then their batches: the lock order of everybody. `$9` is the state of the rows.
const COMPLETE_COUNTED: &str = concat!(
    "WITH done AS (
       UPDATE millstream.job j SET ",
    completed!(values),
    " WHERE j.id = ANY($1) AND j.id BETWEEN $5 AND $6 AND j.state = $9",
    epoch_guard!(own_epoch!()),
    " RETURNING j.id, j.batch_id
     ), unleased AS (DELETE FROM millstream.lease USING done WHERE lease.job_id = done.id)
     SELECT count(*), millstream.count_completed(array_agg(batch_id)) FROM done"
);

async fn complete_counted(
    lent: &mut Lent,
    worker_id: i64,
    columns: &Columns,
    from: RowState,
) -> Result<u64, Outage> {
    let query = columns.statement(COMPLETE_COUNTED, worker_id);
    let done = lent.one(query.bind(from.number())).await?;
    Ok(done.get::<i64, _>(0) as u64)
}

async fn complete_short(lent: &mut Lent, worker_id: i64, columns: &Columns) -> Result<u64, Outage> {
    let sql = match &columns.values {
        None => complete_short!(),
        Some(_) => complete_short!(values),
    };
    lent.execute(columns.statement(sql, worker_id)).await
}

async fn complete_leased(
    lent: &mut Lent,
    worker_id: i64,
    columns: &Columns,
) -> Result<u64, Outage> {
    let sql = match &columns.values {
        None => complete_leased!(),
        Some(_) => complete_leased!(values),
    };
    let done = lent.one(columns.statement(sql, worker_id)).await?;
    Ok(done.get::<i64, _>(0) as u64)
}

impl Columns {
    /// One of the statements above, with its parameters in their order.
    fn statement(&self, sql: &'static str, worker_id: i64) -> Query<'_, Postgres, PgArguments> {
        let query = sqlx::query(sql)
            .bind(&self.ids)
            .bind(&self.epochs)
            .bind(&self.started_at)
            .bind(worker_id)
            .bind(self.ids.first())
            .bind(self.ids.last());
        match &self.values {
            None => query,
            Some(values) => query.bind(&values.results).bind(&values.tokens),
        }
    }
}

async fn read_back(
    lent: &mut Lent,
    worker_id: i64,
    columns: &Columns,
) -> Result<HashSet<JobId>, Outage> {
    let query = sqlx::query_scalar(
        "SELECT j.id FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
         JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state = 2 AND j.worker_id = $3",
    )
    .bind(&columns.ids)
    .bind(&columns.epochs)
    .bind(worker_id);
    Ok(lent.all(query).await?.into_iter().collect())
}
