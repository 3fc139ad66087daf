//! Wall clocks that jump and drift, of a server or of one worker: nobody decides by them who has a job.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    chaos::{fleet::Fleet, rng::Rng},
    faults::{Clock, links::Server},
};

const HOUR_S: i64 = 3600;
/// How long each step lasts: the length of the fault, there is nothing to wait for.
const PAUSE: Duration = Duration::from_secs(4);

/// F44
pub(super) async fn of_redis(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    for step in [HOUR_S, -2 * HOUR_S, HOUR_S] {
        fleet
            .timeline
            .note(&format!("the clock of Redis is moved by {step} s"));
        fleet.clock(Server::Redis)?.step(step);
        sleep(PAUSE).await;
    }
    fleet
        .timeline
        .note("the clock of Redis gains 10 % for a while");
    fleet.clock(Server::Redis)?.drift(10.0);
    sleep(PAUSE).await;
    fleet.clock(Server::Redis)?.drift(0.0);
    Ok(())
}

/// F45. In the end it stays an hour ahead: what was put off while it was ahead would be due an hour later if it went back, and
/// a job that is late by the step is as it should be.
pub(super) async fn of_postgres(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let lost = "SELECT count(*) FROM millstream.worker WHERE state = 'lost'";
    let before = if fleet.is_alone() {
        fleet.number(lost).await?
    } else {
        0
    };
    for step in [-HOUR_S, HOUR_S, HOUR_S] {
        fleet
            .timeline
            .note(&format!("the clock of Postgres is moved by {step} s"));
        fleet.clock(Server::Postgres)?.step(step);
        sleep(PAUSE).await;
    }
    if fleet.is_alone() && fleet.number(lost).await? > before {
        fleet.complain("F45: a worker was taken for dead because a clock was moved".to_owned());
    }
    Ok(())
}

/// F46
pub(super) async fn of_a_worker(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let (name, mut clock) = (rng.pick(&fleet.names("worker")), Clock::new()?);
    let env = clock.env();
    let steps = async {
        for step in [HOUR_S, -2 * HOUR_S, HOUR_S] {
            fleet
                .timeline
                .note(&format!("the clock of {name} is moved by {step} s"));
            clock.step(step);
            sleep(PAUSE).await;
        }
        Ok(())
    };
    fleet
        .altered(std::slice::from_ref(&name), &env, steps)
        .await
}
