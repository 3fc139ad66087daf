//! The heartbeat: an OS thread of its own, with its own runtime and its own Postgres connection (F16).
//!
//! Handlers that hog every core, or a drained pool, cannot make a healthy worker look dead. With each beat come back the leases
//! that Postgres says this worker has; one that is missing was cancelled or handed out again, and its run is stopped.
//! A lease that no run here knows (a lost answer) is handed back after two looks.
//!
//! A lease that no run knows and whose job has been handed out again already is forgotten.

mod fence;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    id::JobId,
    pg::{connect_options, within},
    reconnect::Reconnect,
    rehand::{Leases, Reason, rehand},
};
use sqlx::{ConnectOptions, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use self::fence::Fence;
use crate::shared::Shared;

/// Beats per lease: with eight beats of silence a worker is dead, so one lost packet or a slow commit is none.
const BEATS_PER_LEASE: u32 = 10;
/// `/livez` fails when the thread has not turned for this many leases: longer than a connect with its deadline.
const SILENCE_LEASES_MAX: u32 = 2;

/// Time between beats of a worker with this lease.
pub(crate) fn beat_interval(lease: Duration) -> Duration {
    lease / BEATS_PER_LEASE
}

/// How long a beat must be silent before others take the worker for dead: so that detection and hand-out together stay
/// within the lease.
pub(crate) fn death_silence(lease: Duration) -> Duration {
    lease * 8 / BEATS_PER_LEASE
}

/// Starts the thread; it ends when `stop` fires.
pub(crate) fn start(
    shared: Arc<Shared>,
    database_url: String,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new().name("heartbeat".into());
    thread.spawn(move || runtime.block_on(beat_until(shared, database_url, stop)))
}

async fn beat_until(shared: Arc<Shared>, database_url: String, stop: CancellationToken) {
    let fence = Fence::new(shared.clone());
    let mut heart = Heart {
        connection: None,
        unknown: HashMap::new(),
        database_url,
        shared: shared.clone(),
    };
    let mut reconnect = Reconnect::default();
    while !stop.is_cancelled() {
        shared.pulses.turn(
            "heartbeat",
            shared.lease * SILENCE_LEASES_MAX + Duration::from_secs(15),
        );
        let pause = match fence.during(heart.beat()).await {
            Ok(()) => {
                reconnect.reset();
                beat_interval(shared.lease)
            }
            Err(outage) => {
                heart.note_failure(&outage);
                reconnect.next_delay().min(beat_interval(shared.lease))
            }
        };
        tokio::select! { () = fence.during(tokio::time::sleep(pause)) => {}, () = stop.cancelled() => {} }
    }
    shared.pulses.end("heartbeat");
}

struct Heart {
    shared: Arc<Shared>,
    database_url: String,
    connection: Option<PgConnection>,
    /// Leases without a run here, seen once.
    unknown: HashMap<JobId, i32>,
}

impl Heart {
    async fn beat(&mut self) -> Result<(), Outage> {
        match self.connection.take() {
            Some(kept) => match self.beat_over(kept).await {
                // Its session ended between two beats, which says nothing of the server: a new one is asked.
                Err(outage) if outage.is_connection_gone() => {
                    self.beat_over(self.connect().await?).await
                }
                done => done,
            },
            None => self.beat_over(self.connect().await?).await,
        }
    }

    async fn connect(&self) -> Result<PgConnection, Outage> {
        let op = "connecting the heartbeat";
        let name = format!("millstream heart {}", self.shared.worker_id);
        let options = connect_options(&self.database_url)?.application_name(&name);
        tokio::time::timeout(self.shared.lease / 3, options.connect())
            .await
            .map_err(|_| Outage::PostgresTimeout { op })?
            .map_err(|source| Outage::Postgres { op, source })
    }

    async fn beat_over(&mut self, mut conn: PgConnection) -> Result<(), Outage> {
        // Taken before the question, so that a lease granted during it is not missed in the answer.
        let believed = self.shared.work.held.leased();
        let sent_at = Instant::now();
        let (state, leases) = within("beating", ask(&mut conn, &self.shared)).await?;
        self.shared.contact.passed(sent_at);
        self.shared
            .signals
            .paused
            .store(state == "paused", Ordering::Relaxed);
        if state == "draining" {
            self.shared.signals.draining.cancel();
        }
        let lost: Vec<_> = believed
            .iter()
            .filter(|h| leases.get(&h.id) != Some(&h.epoch))
            .collect();
        for hold in lost {
            hold.lose();
        }
        self.hand_back_unknown(&mut conn, leases).await?;
        end_if_stuck(&self.shared);
        isolate(&mut conn, &self.shared.work.held.deaf()).await?;
        // Kept only if everything went well; a failed connection is dropped and made anew.
        self.connection = Some(conn);
        Ok(())
    }

    async fn hand_back_unknown(
        &mut self,
        conn: &mut PgConnection,
        leases: HashMap<JobId, i32>,
    ) -> Result<(), Outage> {
        let held: HashSet<(JobId, i32)> = self
            .shared
            .work
            .held
            .all()
            .iter()
            .map(|h| (h.id, h.epoch))
            .collect();
        let unknown: HashMap<_, _> = leases
            .into_iter()
            .filter(|lease| !held.contains(lease))
            .collect();
        let twice: Vec<_> = unknown
            .iter()
            .filter(|(id, epoch)| self.unknown.get(id) == Some(epoch))
            .map(|(id, epoch)| (*id, *epoch))
            .collect();
        if !twice.is_empty() {
            tracing::info!(
                jobs = twice.len(),
                "leases without a run here are handed back"
            );
            within(
                "handing leases back",
                rehand(&twice, Reason::Lost, Leases::Included, None).fetch_all(&mut *conn),
            )
            .await?;
            within("forgetting leases", forget_stale(conn, &twice)).await?;
        }
        self.unknown = unknown;
        Ok(())
    }

    /// The fence decides what becomes of the runs.
    fn note_failure(&mut self, outage: &Outage) {
        self.connection = None;
        self.shared.metrics.counters.postgres_failed("beat");
        tracing::debug!(error = %millstream_common::error::in_full(outage), "a heartbeat failed");
        self.shared.contact.failed(outage);
    }
}

/// A thread that a handler blocks comes back only with the end of the process. What else runs here may finish; then the worker ends, and the
/// job is isolated as after any other death.
fn end_if_stuck(shared: &Shared) {
    if shared.signals.draining.is_cancelled() {
        return;
    }
    for hold in shared.work.held.stuck() {
        tracing::error!(job = %hold.id, "a handler blocks its thread at twice its timeout: this worker ends");
        shared.signals.draining.cancel();
    }
}

/// The next runs of these are in a child. A blocked thread may keep the lessor from its turn: then others take over what has no lease, as if
/// it had never started.
async fn isolate(conn: &mut PgConnection, jobs: &[JobId]) -> Result<(), Outage> {
    if jobs.is_empty() {
        return Ok(());
    }
    let update = sqlx::query(
        "UPDATE millstream.job SET crash_count = 1 WHERE id IN (
           SELECT id FROM millstream.job WHERE id = ANY($1) AND state IN (0, 1) AND crash_count = 0 FOR NO KEY UPDATE SKIP LOCKED)",
    );
    within("isolating jobs", update.bind(jobs).execute(conn)).await?;
    Ok(())
}

/// One beat: moves the counter and brings back what Postgres thinks this worker is doing.
async fn ask(
    conn: &mut PgConnection,
    shared: &Shared,
) -> Result<(String, HashMap<JobId, i32>), sqlx::Error> {
    sqlx::query("UPDATE millstream.worker_beat SET beat = beat + 1, beat_at = now(), busy = $2, finished = $3, memory_bytes = $4 WHERE worker_id = $1")
        .bind(shared.worker_id)
        .bind(shared.work.capacity.busy() as i32)
        .bind(shared.work.finished.load(Ordering::Relaxed) as i64)
        .bind(crate::memory::resident_bytes().unwrap_or(0) as i64)
        .execute(&mut *conn)
        .await?;
    // Declared lost during a pause of this process, yet alive: its leases are gone, the worker itself goes on as it was.
    let before = if shared.signals.draining.is_cancelled() {
        "draining"
    } else if shared.signals.paused.load(Ordering::Relaxed) {
        "paused"
    } else {
        "active"
    };
    let state: Option<String> = sqlx::query_scalar(
        "WITH back AS (UPDATE millstream.worker SET state = $2, ended_at = NULL WHERE id = $1 AND state = 'lost' RETURNING state)
         SELECT COALESCE((SELECT state FROM back), (SELECT state FROM millstream.worker WHERE id = $1))",
    )
    .bind(shared.worker_id)
    .bind(before)
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query("SELECT job_id, epoch FROM millstream.lease WHERE worker_id = $1")
        .bind(shared.worker_id)
        .fetch_all(conn)
        .await?;
    Ok((
        state.unwrap_or_default(),
        rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
    ))
}

/// Leases that were written while their job was handed out again, and were not seen by that. They bind nobody.
async fn forget_stale(conn: &mut PgConnection, leases: &[(JobId, i32)]) -> Result<(), sqlx::Error> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = leases.iter().copied().unzip();
    sqlx::query(
        "DELETE FROM millstream.lease l USING unnest($1::uuid[], $2::int[]) AS u(id, epoch) WHERE l.job_id = u.id AND l.epoch = u.epoch
         AND NOT EXISTS (SELECT 1 FROM millstream.job j WHERE j.id = u.id AND j.epoch = u.epoch AND j.state = 1)",
    )
    .bind(ids)
    .bind(epochs)
    .execute(conn)
    .await?;
    Ok(())
}
