//! Callers that wait at the same time share one INSERT.
//!
//! One flusher per process takes whoever waits and writes them together; there is no timer, the next batch forms while the
//! last one is written. Measured: 32 callers cost 8.7 us of Postgres each instead of 115, at lower latency; two flushers are
//! slower than one.
//!
//! Invariant: no caller waits long for what only another one waits for. Callers of an idempotency key, or of an id, that an open transaction
//! holds leave the batch ([`aside`](self::aside)), and one whose job Postgres does not take is refused alone ([`Writer::write_each`]).

mod aside;

use std::time::Duration;

use millstream_common::{
    catalog::JobNames,
    error::{Error, Outage},
    job::NewJob,
    limits::PARCEL_JOBS_MAX,
    persist::Enqueued,
    tasks::Tasks,
};
use tokio::sync::{mpsc, oneshot};

use self::aside::Aside;
use crate::{
    Parts,
    enqueue::count_answers,
    write::{Writer, may_be_divided},
};

/// Callers that may wait for the flusher; more wait for a place, which is the back-pressure.
const WAITING_MAX: usize = 4 * PARCEL_JOBS_MAX;

/// So long at most the flusher looks for ids that are held, while everybody waits: one among 500 is found in nine short waits, about a second.
const SEARCH: Duration = Duration::from_secs(5);

/// A caller.
struct Request {
    job: NewJob,
    names: JobNames,
    answer: oneshot::Sender<Result<Enqueued, Error>>,
}

type Answers = Vec<oneshot::Sender<Result<Enqueued, Error>>>;

/// The jobs, and where their answers go.
fn unzip(batch: Vec<Request>) -> (Vec<(NewJob, JobNames)>, Answers) {
    batch
        .into_iter()
        .map(|r| ((r.job, r.names), r.answer))
        .unzip()
}

/// A caller that no longer listens has given up on the answer, not on the job.
fn tell(answers: Answers, results: impl IntoIterator<Item = Result<Enqueued, Error>>) {
    answers
        .into_iter()
        .zip(results)
        .for_each(|(to, result)| drop(to.send(result)));
}

/// The flusher's front: cheap to clone.
#[derive(Clone)]
pub(crate) struct Coalescer {
    requests: mpsc::Sender<Request>,
}

impl Coalescer {
    pub(crate) fn start(parts: &Parts, writer: Writer, tasks: &Tasks) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let aside = Aside::new(parts.clone(), writer.clone(), tasks.clone());
        let flusher = Flusher {
            parts: parts.clone(),
            writer,
            aside,
        };
        tasks.spawn(flusher.run(waiting, tasks.stop_token()));
        Self { requests }
    }

    /// Waits until the job is committed, refused, or its outcome unknown.
    pub(crate) async fn enqueue(&self, job: NewJob, names: JobNames) -> Result<Enqueued, Error> {
        let gone = || Error::Outage(Outage::PostgresTimeout { op: "enqueuing" });
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Request { job, names, answer })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

struct Flusher {
    parts: Parts,
    writer: Writer,
    aside: Aside,
}

impl Flusher {
    async fn run(
        self,
        mut waiting: mpsc::Receiver<Request>,
        stop: tokio_util::sync::CancellationToken,
    ) {
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
            let batch = self.aside.take_held(std::mem::take(&mut batch));
            if !batch.is_empty() {
                self.flush(batch).await;
            }
        }
    }

    async fn flush(&self, batch: Vec<Request>) {
        let (jobs, answers) = unzip(batch);
        match self.writer.write(&jobs).await {
            Ok(results) => {
                count_answers(&self.parts, jobs.iter().map(|(job, _)| job).zip(&results));
                tell(
                    answers,
                    results
                        .into_iter()
                        .map(|result| result.map_err(Error::from)),
                );
            }
            Err(outage) if may_be_divided(&outage) => self.flush_apart(jobs, answers).await,
            Err(outage) => {
                self.parts.metrics.counters.postgres_failed("enqueue");
                tell(
                    answers,
                    std::iter::repeat_with(|| Err(Error::Outage(outage.copy()))),
                );
            }
        }
    }

    /// Who has a key may have to wait, and does so elsewhere. The others are written here and now.
    async fn flush_apart(&self, jobs: Vec<(NewJob, JobNames)>, answers: Answers) {
        let requests = jobs
            .into_iter()
            .zip(answers)
            .map(|((job, names), answer)| Request { job, names, answer });
        let (keyed, plain): (Vec<_>, Vec<_>) =
            requests.partition(|request| request.job.idempotency_key.is_some());
        self.aside.write(keyed);
        if !plain.is_empty() {
            self.aside.write_each(plain, SEARCH).await;
        }
    }
}
