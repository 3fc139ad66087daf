//! One worker of two is cut off from one server, or hears nothing from it, while its neighbour and everybody else are fine.

use std::time::Instant;

use millstream_common::{error::Outage, pg::Pg, stream::GROUP};
use millstream_local::Durability;
use millstream_tests::{Fault, Lab, Links, Starts, ask::send, eventually, faults::links::Server};
use millstream_worker::{Handler, Worker};
use tokio_util::sync::CancellationToken;

/// A fleet of two with servers of its own, since a session half-way through a silent link keeps every DROP DATABASE of its server
/// waiting: one worker behind links that can be cut, one that cannot.
struct Fleet {
    /// Before the lab: what is dropped first is cut off first.
    links: Links,
    lab: Lab,
    starts: Starts,
    gate: CancellationToken,
    cut: Worker,
}

impl Fleet {
    /// Only the one that will be cut so far.
    async fn start() -> Self {
        Self::of(Lab::private(Durability::None).await).await
    }

    async fn of(lab: Lab) -> Self {
        let (links, starts, gate) = (
            Links::of(&lab).await,
            Starts::default(),
            CancellationToken::new(),
        );
        let cut = lab.worker_in(&links.config, handlers(&starts, &gate)).await;
        Self {
            links,
            lab,
            starts,
            gate,
            cut,
        }
    }

    async fn neighbour(&self) -> Worker {
        self.lab
            .worker_with(handlers(&self.starts, &self.gate))
            .await
    }

    /// Jobs that run until the gate opens, all leased to the worker that will be cut.
    async fn long_jobs(&self, jobs: usize) {
        send(&self.lab.producer(), "gated", "1", jobs).await;
        self.lab
            .await_number("SELECT count(*) FROM millstream.lease", jobs as i64)
            .await;
    }

    /// After the heal the worker that was cut works as before: it alone reads this queue in its turn.
    async fn works_again(&self) {
        let (health, finished) = (self.cut.health(), self.finished_by_cut().await);
        eventually("the cut worker is ready", async || {
            health.readiness().ready.then_some(())
        })
        .await;
        let producer = self.lab.producer();
        eventually("it finishes jobs", async || {
            send(&producer, "timed", "1", 20).await;
            (self.finished_by_cut().await > finished).then_some(())
        })
        .await;
        assert!(health.stuck_loops().is_empty());
    }

    async fn finished_by_cut(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM millstream.job WHERE state = 2 AND worker_id = $1")
            .bind(self.cut.id())
            .fetch_one(&self.lab.pool)
            .await
            .unwrap()
    }

    async fn all_are_done(&self) {
        let undone = "SELECT count(*) FROM millstream.job WHERE state <> 2";
        eventually("all are done", async || {
            (self.lab.number(undone).await == 0).then_some(())
        })
        .await;
    }
}

fn handlers(starts: &Starts, gate: &CancellationToken) -> Vec<Handler> {
    vec![starts.timed("timed"), starts.gated("gated", gate)]
}

// F23
#[tokio::test]
async fn a_worker_cut_off_from_redis_alone_finishes_what_it_has_and_goes_on() {
    let fleet = Fleet::start().await;
    let (lab, links) = (&fleet.lab, &fleet.links);
    fleet.long_jobs(4).await;
    let _neighbour = fleet.neighbour().await;
    send(&lab.producer(), "timed", "50", 200).await;
    links.redis.set(Fault::BLACK_HOLE);
    let health = fleet.cut.health();
    eventually("the cut is noticed", async || {
        (health.readiness().redis == "down").then_some(())
    })
    .await;
    assert!(
        health.readiness().ready,
        "Postgres is fine, so the worker is"
    );
    send(&lab.producer(), "timed", "50", 200).await;
    fleet.gate.cancel();
    lab.await_count("completed", 404).await;
    assert!(fleet.starts.overlapped().is_empty());
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1 OR crash_count > 0")
            .await,
        0
    );
    links.redis.heal();
    eventually("the heal is noticed", async || {
        (health.readiness().redis == "up").then_some(())
    })
    .await;
    lab.await_drained("default").await;
    fleet.works_again().await;
}

// F24: it stops what it has leased before anybody else may start it
#[tokio::test]
async fn a_worker_cut_off_from_postgres_alone_stops_its_runs_before_another_starts_them() {
    let mut lab = Lab::private(Durability::None).await;
    // Twice the shortest: between the fence and the death lies a tenth of it, in which a loaded machine must drop four runs.
    lab.config.worker.lease_ms = 4_000;
    let fleet = Fleet::of(lab).await;
    let (lab, links) = (&fleet.lab, &fleet.links);
    fleet.long_jobs(4).await;
    let neighbour = fleet.neighbour().await;
    links.postgres.set(Fault::BLACK_HOLE);
    eventually("the neighbour runs all of them", async || {
        let leases = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM millstream.lease WHERE worker_id = $1",
        )
        .bind(neighbour.id());
        (leases.fetch_one(&lab.pool).await.unwrap() == 4).then_some(())
    })
    .await;
    assert!(
        fleet.starts.overlapped().is_empty(),
        "both ran the same job at the same time"
    );
    let health = fleet.cut.health();
    eventually("the cut is noticed", async || {
        (!health.readiness().ready).then_some(())
    })
    .await;
    let before = fleet.starts.jobs();
    let more = send(&lab.producer(), "gated", "1", 2).await;
    eventually("the neighbour starts them", async || {
        (fleet.starts.jobs() == before + 2).then_some(())
    })
    .await;
    fleet.gate.cancel();
    for id in more {
        lab.await_state(id, "completed").await;
    }
    fleet.all_are_done().await;
    links.postgres.heal();
    fleet.works_again().await;
    fleet.all_are_done().await;
    lab.await_drained("default").await;
    assert!(fleet.starts.overlapped().is_empty());
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1")
            .await,
        0,
        "one outcome each"
    );
    drop(neighbour);
}

// F24: a job in its first 200 ms, whose entry is taken over because it stays pending
#[tokio::test]
async fn a_run_that_could_not_be_leased_is_stopped_before_another_starts_it() {
    let fleet = Fleet::start().await;
    let id = send(&fleet.lab.producer(), "gated", "1", 1).await[0];
    eventually("it runs", async || (fleet.starts.of(id) == 1).then_some(())).await;
    fleet.links.postgres.set(Fault::BLACK_HOLE);
    let _neighbour = fleet.neighbour().await;
    eventually("it runs again", async || {
        (fleet.starts.of(id) == 2).then_some(())
    })
    .await;
    assert!(
        fleet.starts.overlapped().is_empty(),
        "both ran it at the same time"
    );
    fleet.gate.cancel();
    fleet.lab.await_state(id, "completed").await;
    fleet.links.postgres.heal();
    fleet.works_again().await;
    fleet.all_are_done().await;
}

// F24, rule 33: connections that were lent when the peer fell silent give their places back
#[tokio::test]
async fn a_pool_is_whole_again_after_a_black_hole() {
    const CONNECTIONS: usize = 4;
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let pg = Pg::new(links.config.database.url.expose(), CONNECTIONS as u32).unwrap();
    let ask = async || -> Result<i32, Outage> {
        pg.main("testing").one(sqlx::query_scalar("SELECT 1")).await
    };
    let all_at_once = async || {
        let lent =
            futures::future::join_all((0..CONNECTIONS).map(|_| pg.main("testing").into_future()))
                .await;
        let lent: Vec<_> = lent.into_iter().flatten().collect();
        let count = lent.len();
        lent.into_iter().for_each(millstream_common::pg::Lent::done);
        count
    };
    assert_eq!(
        (ask().await.unwrap(), all_at_once().await),
        (1, CONNECTIONS)
    );
    links.postgres.set(Fault::BLACK_HOLE);
    let begin = Instant::now();
    let answers = futures::future::join_all((0..CONNECTIONS + 2).map(|_| ask())).await;
    assert!(
        answers.iter().all(Result::is_err),
        "nobody waits for ever: {:?}",
        begin.elapsed()
    );
    links.postgres.heal();
    eventually("every place is there again", async || {
        (all_at_once().await == CONNECTIONS).then_some(())
    })
    .await;
}

/// Work goes on while the answers of one server do not reach one of two workers, and after the heal it is as before.
async fn survives_deafness(server: Server) {
    let fleet = Fleet::start().await;
    let lab = &fleet.lab;
    let _neighbour = fleet.neighbour().await;
    send(&lab.producer(), "timed", "20", 300).await;
    eventually("work is under way", async || {
        (lab.count("completed").await >= 20).then_some(())
    })
    .await;
    fleet.links.to(server).set(Fault::BlackHole {
        up: false,
        down: true,
    });
    send(&lab.producer(), "timed", "20", 300).await;
    lab.await_count("completed", 600).await;
    fleet.links.to(server).heal();
    fleet.works_again().await;
    fleet.all_are_done().await;
    lab.await_drained("default").await;
    assert!(fleet.starts.overlapped().is_empty());
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1")
            .await,
        0
    );
}

// F25
#[tokio::test]
async fn a_worker_that_hears_nothing_from_redis_holds_up_nobody() {
    survives_deafness(Server::Redis).await;
}

// F25
#[tokio::test]
async fn a_worker_that_hears_nothing_from_postgres_holds_up_nobody() {
    survives_deafness(Server::Postgres).await;
}

// rule 28
#[tokio::test]
async fn a_reader_whose_connection_died_silently_connects_again() {
    let lab = Lab::new().await;
    let (links, starts) = (Links::of(&lab).await, Starts::default());
    let worker = lab
        .worker_in(&links.config, vec![starts.timed("timed")])
        .await;
    send(&lab.producer(), "timed", "1", 5).await;
    lab.await_all_completed(5).await;
    // The old connections stay open and dead; the network itself is fine.
    links.redis.strand_all();
    let entries = lab.number("SELECT count(*) FROM millstream.job").await;
    let producer = lab.producer();
    eventually("it reads new entries again", async || {
        let id = send(&producer, "timed", "1", 1).await[0];
        lab.await_state(id, "completed").await;
        let told: redis::streams::StreamInfoConsumersReply = lab
            .command(&["XINFO", "CONSUMERS", &lab.work_stream(), GROUP])
            .await;
        // Milliseconds since it was last given something, or since it was last heard of.
        let own = told
            .consumers
            .into_iter()
            .find(|consumer| consumer.name == format!("w{}", worker.id()))?;
        (own.idle < 1_000).then_some(())
    })
    .await;
    assert!(lab.number("SELECT count(*) FROM millstream.job").await > entries);
    assert!(starts.overlapped().is_empty() && worker.health().stuck_loops().is_empty());
}
