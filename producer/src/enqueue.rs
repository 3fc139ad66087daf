//! Enqueue: the doors of the library. Each checks first, so that a refusal has written nothing.

use millstream_common::{
    catalog::JobNames,
    error::{Error, Outage, Refusal},
    failpoint::reach,
    job::NewJob,
    limits::PARCEL_JOBS_MAX,
    persist::{Enqueued, Ids, Persisted, are_taken, persist, sealed},
    pg::within,
};
use sqlx::{Connection, PgConnection};

use crate::{JobKind, Producer};

const OP: &str = "enqueuing";

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
            self.parts.catalog.announce_kinds(&[(K::KIND, K::MAX_ATTEMPTS)]).await?;
        }
        Ok(())
    }

    /// Enqueues all of them in one transaction, or none. The answers are in the order of the jobs. A conflict of one
    /// (an idempotency key used before with another payload) is its own answer's error and does not stop the others.
    pub async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Enqueued, Refusal>>, Error> {
        let mut named = Vec::with_capacity(jobs.len());
        for job in jobs {
            let names = self.admit(&job).await?;
            named.push((job, names));
        }
        let publish = self.publisher.has_room();
        let mut lent = self.lender.lend(OP).await?;
        let done = write(lent.conn(), &named, publish).await;
        let done = done.map_err(|outage| sealed(&outage).map_or_else(|| outage.into(), Error::from))?;
        lent.done();
        reach("enqueue.committed");
        self.publisher.publish(done.parcels);
        self.count(&named, &done.answers);
        Ok(done.answers)
    }

    /// Enqueues in the caller's own transaction: the jobs exist exactly if it commits. They start within about 50 ms
    /// of the COMMIT, when the dispatch duty sees them.
    pub async fn enqueue_in(&self, transaction: &mut PgConnection, jobs: Vec<NewJob>) -> Result<Vec<Result<Enqueued, Refusal>>, Error> {
        let mut answers = Vec::with_capacity(jobs.len());
        let mut named = Vec::with_capacity(jobs.len());
        for job in jobs {
            let names = self.admit(&job).await?;
            named.push((job, names));
        }
        for slice in named.chunks(PARCEL_JOBS_MAX) {
            answers.extend(within(OP, persist(transaction, slice, false, Ids::MayExist)).await?.answers);
        }
        Ok(answers)
    }

    async fn admit(&self, job: &NewJob) -> Result<JobNames, Error> {
        job.check()?;
        self.parts.catalog.resolve(&job.queue, &job.kind, &job.tenant).await
    }

    fn count(&self, jobs: &[(NewJob, JobNames)], answers: &[Result<Enqueued, Refusal>]) {
        count_answers(&self.parts, jobs.iter().map(|(job, _)| job).zip(answers));
    }
}

/// Adds to the counters what was written and what was there before.
pub(crate) fn count_answers<'a>(parts: &crate::Parts, answers: impl Iterator<Item = (&'a NewJob, &'a Result<Enqueued, Refusal>)>) {
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
        if let Some(old) = run.take_if(|(queue, kind, ..)| *queue != job.queue || *kind != job.kind) {
            flush(old);
        }
        let (_, _, new, old) = run.get_or_insert((&job.queue, &job.kind, 0, 0));
        *(if enqueued.duplicate { old } else { new }) += 1;
    }
    if let Some(last) = run {
        flush(last);
    }
}

/// Writes all jobs or none. Ids are nearly always new; if one is not, nothing was written, and the same connection is asked again.
pub(crate) async fn write(conn: &mut PgConnection, jobs: &[(NewJob, JobNames)], publish: bool) -> Result<Persisted, Outage> {
    match write_as(conn, jobs, publish, Ids::New).await {
        Err(outage) if are_taken(&outage) => write_as(conn, jobs, publish, Ids::MayExist).await,
        done => done,
    }
}

async fn write_as(conn: &mut PgConnection, jobs: &[(NewJob, JobNames)], publish: bool, ids: Ids) -> Result<Persisted, Outage> {
    if jobs.len() <= PARCEL_JOBS_MAX {
        return within(OP, persist(conn, jobs, publish, ids)).await;
    }
    let mut tx = within(OP, conn.begin()).await?;
    let mut all = Persisted::default();
    for slice in jobs.chunks(PARCEL_JOBS_MAX) {
        let done = within(OP, persist(&mut tx, slice, publish, ids)).await?;
        all.answers.extend(done.answers);
        all.parcels.extend(done.parcels);
    }
    within(OP, tx.commit()).await?;
    Ok(all)
}
