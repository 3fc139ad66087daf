//! One worker of two is refused on its way to Postgres, as by a dead pooler beside it or a firewall, while Postgres itself is fine.

use millstream_common::metrics::Metrics;
use millstream_tests::{Fault, Lab, Links, Proxy, Starts, ask::send, eventually};
use millstream_worker::{Parts, Worker};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// From here on nobody gets through: what was open is cut, what is new is refused.
async fn refuse(link: &Proxy) {
    link.set(Fault::Refuse);
    eventually("the link refuses", async || {
        link.cut_all();
        (TcpStream::connect(link.address()).await.is_err() && link.connections() == 0).then_some(())
    })
    .await;
}

// F24, I4: it cannot tell a refusal of its own from one of everybody's, so its belief ends by itself
#[tokio::test]
async fn a_worker_that_alone_is_refused_stops_its_runs_within_four_leases_and_no_outcome_of_it_is_accepted()
 {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let (own, others, metrics) = (
        Starts::default(),
        Starts::default(),
        Metrics::new("test").unwrap(),
    );
    let (over, gate) = (CancellationToken::new(), CancellationToken::new());
    let handlers =
        |starts: &Starts, over| vec![starts.gated("gated", &gate), starts.gated("short", over)];
    let parts = Parts {
        config: links.config.clone(),
        metrics: metrics.clone(),
        handlers: handlers(&own, &over),
        isolation: None,
    };
    let refused = Worker::start(parts).await.unwrap();
    let short = send(&lab.producer(), "short", "1", 1).await[0];
    send(&lab.producer(), "gated", "1", 3).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 4)
        .await;
    let neighbour = lab.worker_with(handlers(&others, &gate)).await;
    refuse(&links.postgres).await;
    // This run ends while it is refused: what it says is kept, for longer than the job is its own.
    over.cancel();
    eventually("the neighbour runs them all", async || {
        (others.running().len() == 4).then_some(())
    })
    .await;
    eventually("its own runs are over", async || {
        own.running().is_empty().then_some(())
    })
    .await;
    links.postgres.heal();
    let health = refused.health();
    eventually("it is ready again", async || {
        health.readiness().ready.then_some(())
    })
    .await;
    eventually("its outcome came too late", async || {
        (metrics.counters.leases_lost.get() == 1).then_some(())
    })
    .await;
    assert_eq!(
        (own.of(short), lab.state(short).await.as_str()),
        (1, "running"),
        "the outcome of the refused worker was accepted"
    );
    gate.cancel();
    lab.await_all_completed(4).await;
    let elsewhere =
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM millstream.job WHERE worker_id = $1")
            .bind(neighbour.id());
    assert_eq!(elsewhere.fetch_one(&lab.pool).await.unwrap(), 4);
}
