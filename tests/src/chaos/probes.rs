//! Probes over time: workers and an API in which nothing is wrong are live and ready in every second. A platform restarts what is not, so a
//! probe that is wrong once in an hour is an outage once in an hour.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use millstream_local::Durability;
use tokio::time::{Instant, interval};

use crate::{Lab, Served};

const EVERY: Duration = Duration::from_secs(1);
/// The default: what is watched are the default settings.
const LEASE_MS: u64 = 30_000;

/// Asks each process once a second for so long; tells of each answer that was not 200.
pub async fn watch(time: Duration) -> Result<ExitCode> {
    let mut lab = Lab::private(Durability::Full).await;
    lab.config.worker.lease_ms = LEASE_MS;
    let crew = [
        (
            "leader",
            Served::start(&lab, &["worker", "--name", "leader"]).await,
        ),
        (
            "worker",
            Served::start(&lab, &["worker", "--name", "worker"]).await,
        ),
        ("api", Served::start(&lab, &["api"]).await),
    ];
    println!(
        "watching /livez and /readyz of a leader, a worker and an API for {} minutes",
        time.as_secs() / 60
    );
    let (began, mut tick) = (Instant::now(), interval(EVERY));
    let (mut asked, mut wrong) = (0_u64, 0_u64);
    while began.elapsed() < time {
        tick.tick().await;
        for (name, served) in &crew {
            for path in ["/livez", "/readyz"] {
                let answer = served.get(path).await;
                asked += 1;
                if !answer.status().is_success() {
                    wrong += 1;
                    let (status, text) = (answer.status(), answer.text().await?);
                    eprintln!(
                        "after {} s: {name} {path}: {status} {text}",
                        began.elapsed().as_secs()
                    );
                }
            }
        }
    }
    println!("{asked} probes asked, {wrong} not live or not ready");
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
