//! Callers that give up at any moment, through a link that is slow enough for every moment to come.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use millstream_admin::ops::{
    dead, explain,
    jobs::{self, Filter},
    moves::Move,
    names::{self, Thing},
    queues, stats,
};
use millstream_common::{id::JobId, job::NewJob};
use millstream_producer::{JobKind, Producer};
use millstream_tests::{Fault, Lab, Links, eventually, faults::random::Random};
use serde::Serialize;

const SEED: u64 = 43;
/// Calls of all callers together.
const CALLS: usize = 3_000;
/// Fewer than the connections: a caller who gives up costs one, and a new one takes longer than many are patient.
const CALLERS: u64 = 6;
const PATIENCE_MAX: Duration = Duration::from_millis(50);
/// A few round trips are as long as most callers' patience, so that they give up in the middle.
const LATENCY: Fault = Fault::Delay {
    mean: Duration::from_millis(1),
    jitter: Duration::from_millis(1),
};
/// What the pools hold, hot and main.
const CONNECTIONS: [usize; 2] = [8, 10];

#[derive(Serialize)]
struct Typed {}

impl JobKind for Typed {
    const KIND: &'static str = "noop";
}

/// What was asked for, and what was answered.
#[derive(Default)]
struct Told {
    attempted: Mutex<Vec<JobId>>,
    answered: Mutex<Vec<JobId>>,
    given_up: AtomicUsize,
}

impl Told {
    fn new_jobs(&self, jobs: usize) -> Vec<NewJob> {
        let jobs: Vec<NewJob> = (0..jobs).map(|_| NewJob::new("noop", "1")).collect();
        self.attempted
            .lock()
            .unwrap()
            .extend(jobs.iter().map(|job| job.id));
        jobs
    }

    fn ok(&self, ids: impl IntoIterator<Item = JobId>) {
        self.answered.lock().unwrap().extend(ids);
    }
}

fn ids(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// One call of something public, chosen by the number.
async fn call(producer: &Producer, told: &Told, number: u64) {
    let pg = producer.parts().pg.clone();
    let some = |told: &Told| {
        told.attempted
            .lock()
            .unwrap()
            .last()
            .copied()
            .into_iter()
            .collect::<Vec<_>>()
    };
    match number {
        0 => {
            let job = told.new_jobs(1).remove(0);
            if let Ok(done) = producer.enqueue(job).await {
                told.ok([done.id]);
            }
        }
        // Within a statement, and over the size of a parcel, which is a transaction.
        1 | 2 => {
            let jobs = told.new_jobs(if number == 1 { 3 } else { 501 });
            let ids = ids(&jobs);
            if producer.enqueue_many(jobs).await.is_ok() {
                told.ok(ids);
            }
        }
        3 => {
            let jobs = told.new_jobs(2);
            let ids = ids(&jobs);
            let Ok(mut lent) = pg.main("testing").await else {
                return;
            };
            let Ok(mut tx) = lent.begin().await else {
                return;
            };
            if producer.enqueue_in(&mut tx, jobs).await.is_ok() && tx.commit().await.is_ok() {
                told.ok(ids);
            }
        }
        4 => drop(
            producer
                .enqueue_kind(&Typed {})
                .await
                .map(|done| told.ok([done.id])),
        ),
        5 => drop(Move::Retry.each(&pg, &some(told), "test").await),
        6 => drop(Move::Retry.all(&pg, &Filter::default(), "test").await),
        7 => drop(jobs::list(&pg, &Filter::default(), 20, None).await),
        8 => drop(names::set_paused(&pg, Thing::Queue, "default", false, "test").await),
        9 => drop(names::add(&pg, Thing::Tenant, "another", "test").await),
        10 => drop((queues::list(&pg).await, stats::stats(&pg).await)),
        11 => drop(dead::list(&pg, &Filter::default(), 20, None).await),
        12 => drop(producer.parts().catalog.refresh().await),
        _ => drop(explain::explain(&pg, some(told).first().copied().unwrap_or_default()).await),
    }
}

async fn impatient_caller(producer: Producer, told: Arc<Told>, mut random: Random) {
    for _ in 0..CALLS / CALLERS as usize {
        // The large ones seldom: they are here for their transaction.
        let number = match random.below(18) {
            2 if random.below(12) > 0 => 1,
            14.. => 0,
            number => number,
        };
        let patience = random.duration_below(PATIENCE_MAX);
        if tokio::time::timeout(patience, call(&producer, &told, number))
            .await
            .is_err()
        {
            told.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Every connection of a pool can be borrowed at the same time.
async fn is_whole(producer: &Producer) -> bool {
    let pg = &producer.parts().pg;
    let hot = (0..CONNECTIONS[0]).map(|_| pg.hot("testing").into_future());
    let main = (0..CONNECTIONS[1]).map(|_| pg.main("testing").into_future());
    let lent = futures::join!(
        futures::future::join_all(hot),
        futures::future::join_all(main)
    );
    let lent: Vec<_> = lent.0.into_iter().chain(lent.1).flatten().collect();
    let count = lent.len();
    lent.into_iter().for_each(millstream_common::pg::Lent::done);
    count == CONNECTIONS.iter().sum::<usize>()
}

// F43, rule 32
#[tokio::test]
async fn callers_that_give_up_at_any_moment_leave_nothing_behind() {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let (producer, told) = (lab.producer_in(&links.config), Arc::new(Told::default()));
    links.postgres.set(LATENCY);
    let callers = (0..CALLERS).map(|n| {
        tokio::spawn(impatient_caller(
            producer.clone(),
            told.clone(),
            Random::new(SEED).branch(n),
        ))
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    links.postgres.heal();
    let given_up = told.given_up.load(Ordering::Relaxed);
    println!("seed {SEED}: {given_up} of {CALLS} calls were given up");
    assert!(given_up > CALLS / 20, "only {given_up} calls were given up");
    eventually("no transaction is open", async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
            AND state_change < now() - interval '1 second'";
        (lab.number(open).await == 0).then_some(())
    })
    .await;
    eventually("the pools are whole", async || {
        is_whole(&producer).await.then_some(())
    })
    .await;
    let rows: Vec<JobId> = sqlx::query_scalar("SELECT id FROM millstream.job")
        .fetch_all(&lab.pool)
        .await
        .unwrap();
    let written: HashSet<JobId> = rows.iter().copied().collect();
    assert_eq!(rows.len(), written.len(), "none is there twice");
    let answered = told.answered.lock().unwrap().clone();
    let lost: Vec<_> = answered.iter().filter(|id| !written.contains(id)).collect();
    assert!(lost.is_empty(), "answered and not there: {lost:?}");
    // Those of the typed kind have ids that nobody here was told.
    let attempted = told.attempted.lock().unwrap().len();
    assert!(
        written.len() <= attempted + CALLS,
        "{} rows of {attempted} attempts",
        written.len()
    );
    let _worker = lab.worker().await;
    lab.await_count(
        "completed",
        lab.number("SELECT count(*) FROM millstream.job").await,
    )
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1")
            .await,
        0
    );
}
