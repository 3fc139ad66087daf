//! Enqueue: the doors of the library. Each checks first, so that a refusal has written nothing.

use millstream_common::{
    catalog::JobNames,
    error::{Error, Outage, Refusal},
    job::NewJob,
    limits::{PARCEL_JOBS_MAX, STATEMENT_DEADLINE},
    persist::{Enqueued, Ids, persist, refused},
    pg::within,
};
use sqlx::PgConnection;

use crate::{
    JobKind, Parts, Producer,
    write::{Named, OP},
};

impl Producer {
    /// Enqueues one job. Callers that wait at the same time share one INSERT. After an [`Outage`] the outcome is unknown:
    /// enqueue the same `NewJob` again, its id makes that safe.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, Error> {
        let timer = self.parts.metrics.histograms.enqueue_duration.start_timer();
        let names = self.admit(&job).await?;
        let answer = self.coalescer.enqueue(job, names).await;
        timer.observe_duration();
        answer
    }

    /// Enqueues a typed payload; makes its kind known if no worker has registered it yet.
    pub async fn enqueue_kind<K: JobKind>(&self, payload: &K) -> Result<Enqueued, Error> {
        self.declare::<K>().await?;
        self.enqueue(payload.to_job()?).await
    }

    /// Makes a typed kind known.
    pub async fn declare<K: JobKind>(&self) -> Result<(), Error> {
        if self.parts.catalog.kind_id(K::KIND).is_none() {
            self.parts
                .catalog
                .announce_kinds(&[(K::KIND, K::MAX_ATTEMPTS)])
                .await?;
        }
        Ok(())
    }

    /// Enqueues all of them in one transaction, or none. The answers are in the order of the jobs. A conflict of one
    /// (an idempotency key used before with another payload) is its own answer's error and does not stop the others.
    pub async fn enqueue_many(
        &self,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Result<Enqueued, Refusal>>, Error> {
        let named = self.admit_all(jobs).await?;
        let answers = self.writer.write_whole(&named).await.map_err(blamed)?;
        self.count(&named, &answers);
        Ok(answers)
    }

    /// Enqueues all that can be: each job has its own answer, in their order, and none keeps the others from being written. They are
    /// written in one transaction, unless one of them turns out to be what Postgres does not take.
    pub async fn enqueue_each(&self, jobs: Vec<NewJob>) -> Vec<Result<Enqueued, Error>> {
        let checked = jobs
            .into_iter()
            .map(|job| job.check().map(|()| job).map_err(Error::from));
        let named = self.name_each(checked.collect()).await;
        // Every gap is one job to be written.
        let (jobs, gaps): (Vec<_>, Vec<_>) = named
            .into_iter()
            .map(|named| named.map_or_else(|e| (None, Some(e)), |n| (Some(n), None)))
            .unzip();
        let jobs: Vec<Named> = jobs.into_iter().flatten().collect();
        let written = self.writer.write_each(&jobs, STATEMENT_DEADLINE).await;
        self.count(&jobs, &written);
        let mut written = written.into_iter();
        let lost = || Err(Outage::PostgresTimeout { op: OP }.into());
        gaps.into_iter()
            .map(|refusal| refusal.map_or_else(|| written.next().unwrap_or_else(lost), Err))
            .collect()
    }

    /// Adds the numbers of their names to those that are still good. The tables are read once at most.
    async fn name_each(&self, jobs: Vec<Result<NewJob, Error>>) -> Vec<Result<Named, Error>> {
        let names = self.parts.catalog.resolve_each(jobs.iter().flatten()).await;
        let mut names = match names {
            Ok(names) => names.into_iter(),
            Err(outage) => {
                return jobs
                    .into_iter()
                    .map(|job| job.and_then(|_| Err(outage.copy().into())))
                    .collect();
            }
        };
        let mut next = move || {
            names
                .next()
                .unwrap_or_else(|| Err(Refusal::State("its names were not looked up".into())))
        };
        jobs.into_iter()
            .map(|job| job.and_then(|job| Ok((job, next()?))))
            .collect()
    }

    /// Enqueues in the caller's own transaction: the jobs exist exactly if it commits. They start within about 50 ms
    /// of the COMMIT, when the dispatch duty sees them.
    pub async fn enqueue_in(
        &self,
        transaction: &mut PgConnection,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Result<Enqueued, Refusal>>, Error> {
        let named = self.admit_all(jobs).await?;
        let mut answers = Vec::with_capacity(named.len());
        for slice in named.chunks(PARCEL_JOBS_MAX) {
            answers.extend(
                within(OP, persist(transaction, slice, false, Ids::MayExist))
                    .await
                    .map_err(blamed)?
                    .answers,
            );
        }
        Ok(answers)
    }

    async fn admit(&self, job: &NewJob) -> Result<JobNames, Error> {
        job.check()?;
        self.parts.catalog.resolve(job).await
    }

    /// The numbers of all names, or the refusal of the first job that is refused.
    async fn admit_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Named>, Error> {
        jobs.iter().try_for_each(NewJob::check)?;
        let names = self.parts.catalog.resolve_each(jobs.iter()).await?;
        jobs.into_iter()
            .zip(names)
            .map(|(job, names)| Ok((job, names?)))
            .collect()
    }

    fn count<E>(&self, jobs: &[Named], answers: &[Result<Enqueued, E>]) {
        count_answers(&self.parts, jobs.iter().map(|(job, _)| job).zip(answers));
    }
}

/// A job that Postgres does not take is refused; everything else is an outage.
fn blamed(outage: Outage) -> Error {
    refused(&outage).map_or_else(|| outage.into(), Error::from)
}

/// Adds to the counters what was written and what was there before.
pub(crate) fn count_answers<'a, E: 'a>(
    parts: &Parts,
    answers: impl Iterator<Item = (&'a NewJob, &'a Result<Enqueued, E>)>,
) {
    // One label lookup per run of equal jobs: a batch is mostly of one kind.
    let mut run: Option<(&str, &str, u64, u64)> = None;
    let flush = |(queue, kind, new, old): (&str, &str, u64, u64)| {
        if new > 0 {
            parts.metrics.job(queue, kind).enqueued(parts.source, new);
        }
        if old > 0 {
            parts.metrics.queue(queue).deduplicated.inc_by(old);
        }
    };
    for (job, answer) in answers {
        let Ok(enqueued) = answer else { continue };
        if let Some(old) = run.take_if(|(queue, kind, ..)| *queue != job.queue || *kind != job.kind)
        {
            flush(old);
        }
        let (_, _, new, old) = run.get_or_insert((&job.queue, &job.kind, 0, 0));
        *(if enqueued.duplicate { old } else { new }) += 1;
    }
    if let Some(last) = run {
        flush(last);
    }
}
