//! Callers that wait at the same time share one INSERT.
//!
//! One flusher per process takes whoever waits and writes them together; there is no timer, the next batch forms while the
//! last one is written. Measured: 32 callers cost 8.7 us of Postgres each instead of 115, at lower latency; two flushers are
//! slower than one.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    catalog::JobNames,
    error::{Error, Outage, Refusal},
    failpoint::reach,
    job::NewJob,
    limits::{PARCEL_JOBS_MAX, STATEMENT_DEADLINE},
    persist::{Enqueued, sealed},
    reconnect::Reconnect,
    tasks::Tasks,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Parts,
    enqueue::{count_answers, write},
    lend::{Lender, is_refused},
    publish::Publisher,
};

/// Callers that may wait for the flusher; more wait for a place, which is the back-pressure.
const WAITING_MAX: usize = 4 * PARCEL_JOBS_MAX;
/// A flush that failed on the connection is repeated this long: the ids make it safe.
const RETRY_FOR: Duration = Duration::from_secs(10);

struct Request {
    job: NewJob,
    names: JobNames,
    answer: oneshot::Sender<Result<Enqueued, Error>>,
}

/// The flusher's front: cheap to clone.
#[derive(Clone)]
pub(crate) struct Coalescer {
    requests: mpsc::Sender<Request>,
}

impl Coalescer {
    pub(crate) fn start(parts: &Parts, publisher: Publisher, lender: Lender, tasks: &Tasks) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let flusher = Flusher { parts: parts.clone(), publisher, lender };
        tasks.spawn(flusher.run(waiting, tasks.stop_token()));
        Self { requests }
    }

    /// Waits until the job is committed, refused, or its outcome unknown.
    pub(crate) async fn enqueue(&self, job: NewJob, names: JobNames) -> Result<Enqueued, Error> {
        let gone = || Error::Outage(Outage::PostgresTimeout { op: "enqueuing" });
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { job, names, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

struct Flusher {
    parts: Parts,
    publisher: Publisher,
    lender: Lender,
}

impl Flusher {
    async fn run(self, mut waiting: mpsc::Receiver<Request>, stop: tokio_util::sync::CancellationToken) {
        let mut batch = Vec::with_capacity(PARCEL_JOBS_MAX);
        loop {
            tokio::select! {
                biased;
                taken = waiting.recv_many(&mut batch, PARCEL_JOBS_MAX) => if taken == 0 { return },
                () = stop.cancelled() => {
                    // Whoever is in the channel already gets an answer; later callers see it closed.
                    waiting.close();
                    if waiting.recv_many(&mut batch, PARCEL_JOBS_MAX).await == 0 { return }
                }
            }
            self.flush(std::mem::take(&mut batch)).await;
        }
    }

    async fn flush(&self, batch: Vec<Request>) {
        let (jobs, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|r| ((r.job, r.names), r.answer)).unzip();
        match self.write_all(&jobs).await {
            Ok(results) => {
                count_answers(&self.parts, jobs.iter().map(|(job, _)| job).zip(&results));
                // A caller that no longer listens has given up on the answer, not on the job.
                answers.into_iter().zip(results).for_each(|(to, result)| drop(to.send(result.map_err(Error::from))));
            }
            Err(outage) => {
                self.parts.metrics.counters.postgres_failed("enqueue");
                let shared = Arc::new(outage);
                answers.into_iter().for_each(|to| drop(to.send(Err(Error::Outage(copy(&shared))))));
            }
        }
    }

    /// A job with an id that is refused does not keep the others from being written: then each is written by itself.
    async fn write_all(&self, jobs: &[(NewJob, JobNames)]) -> Result<Vec<Result<Enqueued, Refusal>>, Outage> {
        match self.write(jobs).await {
            Err(outage) if sealed(&outage).is_some() => {}
            done => return done,
        }
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.write(std::slice::from_ref(job)).await {
                Ok(answer) => answers.extend(answer),
                Err(outage) => answers.push(Err(sealed(&outage).ok_or(outage)?)),
            }
        }
        Ok(answers)
    }

    /// Writes the batch, again if the connection broke: then rows that exist are our own.
    async fn write(&self, jobs: &[(NewJob, JobNames)]) -> Result<Vec<Result<Enqueued, Refusal>>, Outage> {
        let deadline = Instant::now() + RETRY_FOR.min(STATEMENT_DEADLINE);
        let mut reconnect = Reconnect::default();
        let mut repeated = false;
        loop {
            match self.write_once(jobs).await {
                Ok(mut answers) => {
                    if repeated {
                        answers.iter_mut().zip(jobs).for_each(|(answer, (job, _))| own(answer, job));
                    }
                    return Ok(answers);
                }
                Err(outage) if Instant::now() < deadline && is_broken_connection(&outage) => {
                    tracing::debug!(error = %millstream_common::error::in_full(&outage), "enqueue is repeated with the same ids");
                    repeated = true;
                    tokio::time::sleep(reconnect.next_delay()).await;
                }
                Err(outage) => return Err(outage),
            }
        }
    }

    async fn write_once(&self, jobs: &[(NewJob, JobNames)]) -> Result<Vec<Result<Enqueued, Refusal>>, Outage> {
        let publish = self.publisher.has_room();
        let mut lent = self.lender.lend("enqueuing").await?;
        let done = write(lent.conn(), jobs, publish).await?;
        lent.done();
        reach("enqueue.committed");
        self.publisher.publish(done.parcels);
        Ok(done.answers)
    }
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
        Outage::Postgres { source, .. } => source
            .as_database_error()
            .is_none_or(|e| matches!(e.code().as_deref(), Some("57P01" | "57P02" | "57P03" | "40P01" | "40001" | "53300"))),
        _ => false,
    }
}

/// Every caller of a failed batch gets the error; the driver's error itself cannot be cloned.
fn copy(outage: &Outage) -> Outage {
    match outage {
        Outage::Postgres { op, source } => Outage::Postgres { op, source: sqlx::Error::Protocol(source.to_string()) },
        _ => Outage::PostgresTimeout { op: "enqueuing" },
    }
}
