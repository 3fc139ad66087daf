//! Faults of callers: they give up, send garbage, and ask for the same at the same time.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use millstream_common::{
    config::{Config, Secret},
    id::new_job_id,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{asks::Asks, until::until};
use crate::chaos::{
    door::{Answer, CALL_DEADLINE, Door, answer_of},
    fleet::{Fleet, variable},
    journal::{Event, Token},
    rng::Rng,
    workload::{Ask, QUICK},
};

/// The longest patience of a caller that has little.
const PATIENCE_MS: u64 = 50;
/// How long.
const IMPATIENT: Duration = Duration::from_secs(8);
/// Keys that are asked for at the same time (F56), and how often each.
const KEYS: usize = 20;
const ASKERS_OF_A_DOOR: usize = 4;
const LARGE: &str = "10 MB";
/// Garbage that only some parsers refuse.
const DEEP: &str = "10000 brackets";
/// A job with a payload that its handler does not understand is dead by then.
const DEAD_WITHIN: Duration = Duration::from_secs(30);

/// F43
pub(super) async fn impatient(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let env = [(variable::PATIENCE_MS.to_owned(), PATIENCE_MS.to_string())];
    let while_impatient = async {
        fleet.timeline.note(&format!(
            "all callers give up within {PATIENCE_MS} ms, for {} s",
            IMPATIENT.as_secs()
        ));
        // The length of the fault: there is nothing to wait for.
        sleep(IMPATIENT).await;
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '2 s'";
        let idle = fleet.number(idle).await?;
        if idle > 0 && fleet.is_alone() {
            fleet.complain(format!("F43: {idle} sessions are left in a transaction"));
        }
        Ok(())
    };
    fleet
        .altered(&fleet.names("producer"), &env, while_impatient)
        .await
}

/// The three doors, so many times. [`close`] them: each of the library's holds connections.
async fn doors(fleet: &Fleet, times: usize) -> Result<Vec<Door>> {
    let mut config = Config::load(None).map_err(|e| anyhow!(e))?;
    config.database.url = Secret::new(fleet.database_url().to_owned());
    config.redis.url = Secret::new(fleet.redis_url().to_owned());
    fleet.prefix().clone_into(&mut config.redis.prefix);
    let mut doors = Vec::new();
    for _ in 0..times {
        doors.push(Door::Library(Box::new(Door::library(&config).await?)));
        doors.push(Door::Http(reqwest::Client::new(), fleet.api_url()));
        doors.push(Door::Sql(Box::new(fleet.database_url().parse()?), None));
    }
    Ok(doors)
}

async fn close(doors: Vec<Door>) {
    for door in doors {
        if let Door::Library(producer) = door {
            producer.close().await;
        }
    }
}

fn ask_for(token: Token, payload: String, key: Option<String>) -> Ask {
    Ask {
        token,
        kind: QUICK,
        payload,
        priority: "medium",
        key,
    }
}

/// F50
pub(super) async fn garbage(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let mut asks = Asks::open(fleet)?;
    let mut doors = doors(fleet, 1).await?;
    for door in &mut doors {
        let name = name(door);
        for (what, tail) in garbage_tails() {
            // What a door takes all the same, no handler understands.
            let token = asks.doomed();
            let payload = format!(r#"{{"token":{token},"garbage":{tail}"#);
            let answer = match door {
                // What is no JSON cannot be put into a request as JSON is.
                Door::Http(client, url) => post(client, url, &payload).await,
                _ => {
                    door.ask(&ask_for(token, payload, None), new_job_id(), CALL_DEADLINE)
                        .await
                }
            };
            judge_answer(fleet, &asks, (token, name, what), answer);
        }
    }
    let done = misunderstood(fleet, &mut asks, &mut doors).await;
    close(doors).await;
    done
}

/// Nothing of it may be accepted, but by the SQL door what is deep: that is JSON to Postgres.
fn judge_answer(
    fleet: &Fleet,
    asks: &Asks,
    (token, door, what): (Token, &str, &str),
    answer: Answer,
) {
    match answer {
        Answer::Failed(why) => asks.journal.write(Event::Failed(token, why)),
        Answer::Unknown(why) => {
            // The API answers what is too large before it has read all of it, and closes: under load the caller only sees a broken pipe.
            if fleet.is_alone() && (what, door) != (LARGE, "HTTP") {
                fleet.complain(format!(
                    "F50: {what} through the door {door} was not refused: {why}"
                ));
            }
            asks.journal.write(Event::Unknown(token, why));
        }
        Answer::Ok(id) => {
            if (what, door) != (DEEP, "SQL") {
                fleet.complain(format!("F50: {what} was accepted through the door {door}"));
            }
            asks.journal.write(Event::Ok(token, id));
        }
    }
}

/// Ends of payloads, none of which is one.
fn garbage_tails() -> Vec<(&'static str, String)> {
    let deep = 10_000;
    vec![
        ("no JSON", "nonsense".to_owned()),
        ("half a payload", "[1, 2".to_owned()),
        (LARGE, format!("\"{}\"}}", "x".repeat(10_000_000))),
        (DEEP, format!("{}{}}}", "[".repeat(deep), "]".repeat(deep))),
        ("a NUL", r#""\u0000"}"#.to_owned()),
    ]
}

fn name(door: &Door) -> &'static str {
    match door {
        Door::Library(_) => "library",
        Door::Http(..) => "HTTP",
        Door::Sql(..) => "SQL",
    }
}

async fn post(client: &reqwest::Client, url: &str, payload: &str) -> Answer {
    let body = format!(r#"{{"kind":"{QUICK}","payload":{payload}}}"#);
    answer_of(
        client
            .post(format!("{url}/v1/jobs"))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await,
    )
    .await
}

/// JSON that the handler does not understand: this job is dead, and no other.
async fn misunderstood(fleet: &Fleet, asks: &mut Asks, doors: &mut [Door]) -> Result<()> {
    for door in doors {
        let token = asks.doomed();
        let ask = ask_for(
            token,
            format!(r#"{{"token":{token},"fail":"often"}}"#),
            None,
        );
        let Answer::Ok(id) = door.ask(&ask, new_job_id(), CALL_DEADLINE).await else {
            asks.journal.write(Event::Unknown(token, String::new()));
            anyhow::ensure!(!fleet.is_alone(), "the door {} takes no job", name(door));
            continue;
        };
        asks.journal.write(Event::Ok(token, id));
        dies_alone(fleet, id.context("every door tells the id")?).await?;
    }
    Ok(())
}

async fn dies_alone(fleet: &Fleet, id: Uuid) -> Result<()> {
    let dead = format!(
        "SELECT count(*) FROM millstream.job WHERE id = '{id}' AND state = 8 AND crash_count = 0"
    );
    until(
        fleet,
        "F50: dead jobs that nobody understands",
        &dead,
        1,
        DEAD_WITHIN,
    )
    .await
}

/// F56
pub(super) async fn same_key(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let (mut asks, mut doors) = (Asks::open(fleet)?, doors(fleet, ASKERS_OF_A_DOOR).await?);
    fleet.timeline.note(&format!(
        "{KEYS} keys, each asked for {} times at once through three doors",
        doors.len()
    ));
    for _ in 0..KEYS {
        let token = asks.token();
        let ask = ask_for(
            token,
            format!(r#"{{"token":{token},"fail":0}}"#),
            Some(format!("same-{token}")),
        );
        let all = doors
            .iter_mut()
            .map(|door| door.ask(&ask, new_job_id(), CALL_DEADLINE));
        let answers = futures::future::join_all(all).await;
        one_id(fleet, &asks, token, answers);
    }
    close(doors).await;
    Ok(())
}

/// Whoever is told an id is told the same.
fn one_id(fleet: &Fleet, asks: &Asks, token: Token, answers: Vec<Answer>) {
    let mut told = Vec::new();
    for answer in answers {
        match answer {
            Answer::Ok(id) => told.extend(id),
            Answer::Failed(why) => {
                fleet.complain(format!("F56: the key of token {token} was refused: {why}"));
            }
            Answer::Unknown(why) => asks.journal.write(Event::Unknown(token, why)),
        }
    }
    told.sort();
    told.dedup();
    if let Some(id) = told.first() {
        asks.journal.write(Event::Ok(token, Some(*id)));
    }
    if told.len() > 1 {
        fleet.complain(format!(
            "F56: the key of token {token} was answered with {told:?}"
        ));
    }
}
