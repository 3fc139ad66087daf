//! Jobs of many callers are written together, and none of them takes its neighbours along.
//!
//! A statement that fails on what one of its jobs is, or on a row that somebody else's transaction holds, has written nothing. It is
//! divided until each guilty job stands alone and only that one is refused. A failure of the server itself is everybody's.
//!
//! Knows nothing of who waits for the answers.
//!
//! If the connection breaks, the batch is written again with the same ids, which cannot write
//! anything twice. A locked table is waited for; a held row only for a moment.

use std::{borrow::Cow, time::Duration};

use millstream_common::{
    catalog::JobNames,
    error::{Error, Outage, Refusal, in_full},
    failpoint::reach,
    id::JobId,
    job::NewJob,
    limits::{PARCEL_JOBS_MAX, STATEMENT_DEADLINE},
    persist::{
        Enqueued, Ids, Patience, Persisted, are_taken, is_held, is_row_held, persist_within,
        refused,
    },
    pg::{Lent, within},
    reconnect::Reconnect,
};
use tokio::time::Instant;

use crate::{
    lend::{Lender, is_refused},
    publish::Publisher,
};

/// What is being done, in errors.
pub(crate) const OP: &str = "enqueuing";
/// A write that failed on the connection is repeated this long: the ids make it safe.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// A job that was checked, with the numbers of its names.
pub(crate) type Named = (NewJob, JobNames);

/// Writes jobs and publishes their parcels. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) publisher: Publisher,
    pub(crate) lender: Lender,
}

/// Whether a part of the jobs may do better than all of them did.
pub(crate) fn may_be_divided(outage: &Outage) -> bool {
    refused(outage).is_some() || is_row_held(outage) || outage.may_be_of_one_row()
}

impl Writer {
    /// Writes all that can be written. The answers are in the order of the jobs. `search`: how long is looked for those whose rows are held;
    /// each that is found costs several short waits, and what is not told apart by then is refused.
    pub(crate) async fn write_each(
        &self,
        jobs: &[Named],
        search: Duration,
    ) -> Vec<Result<Enqueued, Error>> {
        let began = Instant::now();
        let may_go_on =
            |held: bool| began.elapsed() < if held { search } else { STATEMENT_DEADLINE };
        let mut answers: Vec<_> = std::iter::repeat_with(|| None).take(jobs.len()).collect();
        let mut parts: Vec<Part> = vec![(0..jobs.len()).collect()];
        while let Some(part) = parts.pop() {
            match self.write(&of_part(jobs, &part)).await {
                Ok(written) => part
                    .into_iter()
                    .zip(written)
                    .for_each(|(place, answer)| answers[place] = Some(answer.map_err(Error::from))),
                Err(outage) if may_be_divided(&outage) && may_go_on(is_held(&outage)) => {
                    match divided(part, jobs, is_held(&outage)) {
                        Ok(smaller) => parts.extend(smaller),
                        Err(guilty) => guilty
                            .into_iter()
                            .for_each(|place| answers[place] = Some(Err(guilt(&outage)))),
                    }
                }
                Err(outage) => part
                    .into_iter()
                    .for_each(|place| answers[place] = Some(Err(Error::Outage(outage.copy())))),
            }
        }
        // Every place was in one part, and every part is answered or divided.
        let lost = || Err(Error::Outage(Outage::PostgresTimeout { op: OP }));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(lost))
            .collect()
    }

    /// Writes all or none, again if the connection broke: then rows that exist are our own. Many callers wait for this, so whoever has a
    /// key or an id that an open transaction holds does not keep it long. A locked table is waited for: it is locked for all of them.
    pub(crate) async fn write(
        &self,
        jobs: &[Named],
    ) -> Result<Vec<Result<Enqueued, Refusal>>, Outage> {
        let mut patience = Patience::Short;
        let deadline = Instant::now() + RETRY_FOR.min(STATEMENT_DEADLINE);
        let mut reconnect = Reconnect::default();
        let mut repeated = false;
        loop {
            match self.write_once(jobs, patience).await {
                Ok(mut answers) => {
                    if repeated {
                        answers
                            .iter_mut()
                            .zip(jobs)
                            .for_each(|(answer, (job, _))| own(answer, job));
                    }
                    return Ok(answers);
                }
                Err(outage)
                    if patience == Patience::Short && is_held(&outage) && !is_row_held(&outage) =>
                {
                    patience = Patience::Session;
                }
                Err(outage) if Instant::now() < deadline && is_broken_connection(&outage) => {
                    tracing::debug!(error = %in_full(&outage), "enqueue is repeated with the same ids");
                    // Who holds them may be our own first try, which the server has not given up yet.
                    (repeated, patience) = (true, Patience::Session);
                    tokio::time::sleep(reconnect.next_delay()).await;
                }
                Err(outage) => return Err(outage),
            }
        }
    }

    /// Writes all or none. A session that had ended while nobody used it is replaced, and the ids make the second try safe.
    pub(crate) async fn write_whole(
        &self,
        jobs: &[Named],
    ) -> Result<Vec<Result<Enqueued, Refusal>>, Outage> {
        match self.write_once(jobs, Patience::Session).await {
            Err(outage) if outage.is_connection_gone() => {
                let mut answers = self.write_once(jobs, Patience::Session).await?;
                answers
                    .iter_mut()
                    .zip(jobs)
                    .for_each(|(answer, (job, _))| own(answer, job));
                Ok(answers)
            }
            done => done,
        }
    }

    /// Writes all or none, without a second try.
    async fn write_once(
        &self,
        jobs: &[Named],
        patience: Patience,
    ) -> Result<Vec<Result<Enqueued, Refusal>>, Outage> {
        let publish = self.publisher.has_room();
        let mut lent = self.lender.lend(OP).await?;
        let done = write(&mut lent, jobs, publish, patience).await?;
        lent.done();
        reach("enqueue.committed");
        self.publisher.publish(done.parcels);
        Ok(done.answers)
    }
}

/// Some of the jobs, by their places.
type Part = Vec<usize>;

/// All of them nearly always, and then none is copied.
fn of_part<'a>(jobs: &'a [Named], part: &[usize]) -> Cow<'a, [Named]> {
    if part.len() == jobs.len() {
        Cow::Borrowed(jobs)
    } else {
        Cow::Owned(part.iter().map(|place| jobs[*place].clone()).collect())
    }
}

/// What a job may wait for: its idempotency key, which is one of its tenant, or its id if it has none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Awaited<'a> {
    Id(JobId),
    Key(i32, Cow<'a, str>),
}

impl<'a> Awaited<'a> {
    pub(crate) fn by(job: &'a NewJob, names: &JobNames) -> Self {
        job.idempotency_key
            .as_deref()
            .map_or(Self::Id(job.id), |key| Self::Key(names.tenant, key.into()))
    }

    /// To be kept for longer than the job.
    pub(crate) fn into_owned(self) -> Awaited<'static> {
        match self {
            Self::Id(id) => Awaited::Id(id),
            Self::Key(tenant, key) => Awaited::Key(tenant, key.into_owned().into()),
        }
    }
}

/// Smaller parts to try by themselves, the first one last; or those who are guilty, when that is one job, or all callers of one key or id.
/// Those without a key are told apart first, and callers of the same key stay together: each part may cost a wait.
fn divided(mut part: Part, jobs: &[Named], held: bool) -> Result<[Part; 2], Part> {
    let half = part.len() / 2;
    let middle = if held {
        let of = |place: &usize| Awaited::by(&jobs[*place].0, &jobs[*place].1);
        part.sort_by_key(of);
        let plain = part.partition_point(|place| matches!(of(place), Awaited::Id(_)));
        // Else the place nearest the middle at which one key or id ends and the next begins, if there are two.
        let ends = (1..part.len()).filter(|at| of(&part[at - 1]) != of(&part[*at]));
        if (1..part.len()).contains(&plain) {
            Some(plain)
        } else {
            ends.min_by_key(|at| at.abs_diff(half))
        }
    } else {
        (half > 0).then_some(half)
    };
    let Some(middle) = middle else {
        return Err(part);
    };
    let rest = part.split_off(middle);
    Ok([rest, part])
}

/// What the one hears who alone is to blame.
fn guilt(outage: &Outage) -> Error {
    refused(outage).map_or_else(|| Error::Outage(outage.copy()), Error::from)
}

/// After a repeated write a "duplicate" with the very id of the request is what the first try committed.
fn own(answer: &mut Result<Enqueued, Refusal>, job: &NewJob) {
    if let Ok(enqueued) = answer
        && enqueued.id == job.id
    {
        enqueued.duplicate = false;
    }
}

/// A broken connection may be made anew. A refused one was asked for again and again already, by the [`Lender`].
fn is_broken_connection(outage: &Outage) -> bool {
    match outage {
        refused if is_refused(refused) => false,
        gone if gone.is_connection_gone() => true,
        Outage::Postgres {
            source: sqlx::Error::Encode(_),
            ..
        } => false,
        Outage::Postgres { source, .. } => source.as_database_error().is_none_or(|e| {
            matches!(
                e.code().as_deref(),
                Some("57P03" | "40P01" | "40001" | "53300")
            )
        }),
        _ => false,
    }
}

/// Writes all jobs or none. Ids are nearly always new; if one is not, nothing was written, and the same connection is asked again.
async fn write(
    lent: &mut Lent,
    jobs: &[Named],
    publish: bool,
    patience: Patience,
) -> Result<Persisted, Outage> {
    match write_as(lent, jobs, publish, Ids::New, patience).await {
        Err(outage) if are_taken(&outage) => {
            write_as(lent, jobs, publish, Ids::MayExist, patience).await
        }
        done => done,
    }
}

async fn write_as(
    lent: &mut Lent,
    jobs: &[Named],
    publish: bool,
    ids: Ids,
    patience: Patience,
) -> Result<Persisted, Outage> {
    if jobs.len() <= PARCEL_JOBS_MAX {
        let persisted = persist_within(lent.conn(), jobs, publish, ids, patience);
        return within(OP, persisted).await;
    }
    let mut tx = lent.begin().await?;
    let mut all = Persisted::default();
    for slice in jobs.chunks(PARCEL_JOBS_MAX) {
        let done = within(OP, persist_within(&mut tx, slice, publish, ids, patience)).await?;
        all.answers.extend(done.answers);
        all.parcels.extend(done.parcels);
    }
    tx.commit().await?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts by the places of their jobs, the first one first; one part: those who are guilty.
    fn parts(keys: &[Option<&str>], held: bool) -> Vec<Vec<usize>> {
        let names = JobNames {
            queue: 1,
            kind: 1,
            tenant: 1,
        };
        let job = |key: Option<&str>| {
            (
                NewJob {
                    idempotency_key: key.map(str::to_owned),
                    ..NewJob::new("noop", "{}")
                },
                names,
            )
        };
        let jobs: Vec<Named> = keys.iter().copied().map(job).collect();
        divided((0..keys.len()).collect(), &jobs, held)
            .map_or_else(|guilty| vec![guilty], |[second, first]| vec![first, second])
    }

    // X01
    #[test]
    fn a_batch_is_halved_until_the_guilty_one_stands_alone() {
        assert_eq!(
            parts(&[None, Some("a"), None], false),
            [vec![0], vec![1, 2]]
        );
        assert_eq!(parts(&[None], false), [vec![0]]);
    }

    // X63
    #[test]
    fn whoever_waits_for_nothing_held_goes_first_and_callers_of_one_key_stay_together() {
        assert_eq!(
            parts(&[Some("a"), None, Some("b"), None], true),
            [vec![1, 3], vec![0, 2]]
        );
        assert_eq!(
            parts(
                &[Some("b"), Some("a"), Some("b"), Some("a"), Some("b")],
                true
            ),
            [vec![1, 3], vec![0, 2, 4]]
        );
        assert_eq!(parts(&[Some("a"), Some("a")], true), [vec![0, 1]]);
        assert_eq!(
            parts(&[None, None, None], true),
            [vec![0], vec![1, 2]],
            "each has an id of its own"
        );
        assert_eq!(parts(&[None], true), [vec![0]]);
    }
}
