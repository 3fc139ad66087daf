//! One caller, one row or one name takes no neighbour along.

use std::time::Duration;

use futures::future::join_all;
use millstream_common::persist::is_held;
use millstream_producer::{Error, NewJob, Refusal};
use millstream_tests::{Lab, Served, eventually};
use reqwest::StatusCode;
use serde_json::json;

/// Simultaneous callers: they share a few INSERTs.
const CALLERS: usize = 200;

// X01: 200 callers, four with a time that Postgres does not have
#[tokio::test]
async fn x01_only_the_callers_with_an_impossible_time_are_refused() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let body = |nth: usize| match nth % 50 {
        0 => json!({"kind": "noop", "run_at": "-9999-01-01T00:00:00Z"}),
        _ => json!({"kind": "noop"}),
    };
    let answers =
        join_all((0..CALLERS).map(|nth| api.post_text("/v1/jobs", body(nth).to_string()))).await;
    for (nth, (status, answer)) in answers.iter().enumerate() {
        let bad = nth % 50 == 0;
        assert_eq!(
            *status,
            if bad {
                StatusCode::UNPROCESSABLE_ENTITY
            } else {
                StatusCode::ACCEPTED
            },
            "{answer}"
        );
        assert!(
            !bad || answer["detail"].as_str().unwrap().contains("run_at"),
            "{answer}"
        );
    }
    let jobs: Vec<_> = (0..CALLERS).map(body).collect();
    let (status, answer) = api
        .post_text("/v1/jobs/bulk", json!({"jobs": jobs}).to_string())
        .await;
    assert_eq!(
        (status, &answer["accepted"], &answer["refused"]),
        (StatusCode::OK, &json!(196), &json!(4)),
        "{answer}"
    );
    assert_eq!(answer["results"][50]["error"]["status"], 422, "{answer}");
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job").await,
        2 * 196
    );
}

/// What a job says is raised as an error of that code, whatever the class, as a constraint or a trigger of an operator might.
async fn refuse_by_code(lab: &Lab) {
    let sql = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'not this one' USING ERRCODE = substr(NEW.payload, 6, 5);
               END $$;
               CREATE TRIGGER refuse BEFORE INSERT ON millstream.job FOR EACH ROW WHEN (NEW.payload LIKE '\"bad %') EXECUTE FUNCTION public.refuse()";
    sqlx::raw_sql(sql).execute(&lab.pool).await.unwrap();
}

// X01: whatever Postgres says about a row that no check of ours knew of
#[tokio::test]
async fn x01_a_row_that_postgres_does_not_take_leaves_the_batch_alone() {
    let lab = Lab::new().await;
    refuse_by_code(&lab).await;
    let producer = lab.producer();
    let codes = [
        "21000", "22008", "22003", "22P05", "23514", "23502", "54000", "P0001", "XX000", "0A000",
    ];
    let payload = |nth: usize| {
        if nth.is_multiple_of(20) {
            format!("\"bad {}\"", codes[nth / 20])
        } else {
            "{}".to_owned()
        }
    };
    let jobs: Vec<_> = (0..CALLERS)
        .map(|nth| NewJob::new("noop", payload(nth)))
        .collect();
    let single = join_all(jobs.clone().into_iter().map(|job| producer.enqueue(job))).await;
    let again = jobs
        .into_iter()
        .map(|job| NewJob::new("noop", job.payload))
        .collect();
    for answers in [single, producer.enqueue_each(again).await] {
        for (nth, answer) in answers.iter().enumerate() {
            match (nth % 20 == 0, answer) {
                (false, answer) => assert!(answer.is_ok(), "{nth}: {answer:?}"),
                // A class that says nothing of the row is no refusal, and still is told only to the one.
                (true, Err(Error::Outage(outage))) => {
                    assert!(
                        nth / 20 >= 8 && outage.code().as_deref() == Some(codes[nth / 20]),
                        "{outage:?}"
                    );
                }
                (true, answer) => assert!(
                    matches!(answer, Err(Error::Refused(Refusal::Invalid(text))) if text.contains("not this one"))
                ),
            }
        }
    }
    let bad = producer
        .enqueue_many(vec![
            NewJob::new("noop", "1"),
            NewJob::new("noop", payload(20)),
        ])
        .await;
    assert!(
        matches!(bad, Err(Error::Refused(_))),
        "all or none: {bad:?}"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job").await,
        2 * 190
    );
}

// X01: an error of the database is no outage at the HTTP door either
#[tokio::test]
async fn x01_an_error_of_the_database_is_not_called_an_outage() {
    let lab = Lab::new().await;
    refuse_by_code(&lab).await;
    let api = Served::start(&lab, &["api"]).await;
    for (code, expected) in [
        ("22008", 422),
        ("23514", 422),
        ("54000", 422),
        ("XX000", 500),
    ] {
        let (status, answer) = api
            .post_text(
                "/v1/jobs",
                json!({"kind": "noop", "payload": format!("bad {code}")}).to_string(),
            )
            .await;
        assert_eq!(status.as_u16(), expected, "{code}: {answer}");
    }
}

// X63: somebody who may do nothing but enqueue in SQL keeps a transaction open
#[tokio::test]
async fn x63_only_callers_of_a_held_key_wait_or_are_sent_away() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let mut holder = lab.pool.begin().await.unwrap();
    sqlx::query("SELECT millstream.enqueue('noop', idempotency_key => 'held')")
        .execute(&mut *holder)
        .await
        .unwrap();
    // Three rounds: the first learns which key is held, the others know.
    for _ in 0..3 {
        let job = |nth: usize| {
            let key = if nth.is_multiple_of(4) {
                Some("held".to_owned())
            } else {
                (nth % 4 == 1).then(|| millstream_common::id::new_job_id().to_string())
            };
            NewJob {
                idempotency_key: key,
                ..NewJob::new("noop", "{}")
            }
        };
        let answers = join_all((0..CALLERS).map(|nth| producer.enqueue(job(nth)))).await;
        for (nth, answer) in answers.iter().enumerate() {
            match answer {
                Err(Error::Outage(outage)) => {
                    assert!(nth % 4 == 0 && is_held(outage), "{nth}: {outage:?}");
                }
                answer => assert!(nth % 4 != 0 && answer.is_ok(), "{nth}: {answer:?}"),
            }
        }
        let answers = producer.enqueue_each((0..20).map(job).collect()).await;
        assert!(
            answers
                .iter()
                .enumerate()
                .all(|(nth, answer)| answer.is_ok() == (nth % 4 != 0)),
            "{answers:?}"
        );
    }
    let api = Served::start(&lab, &["api"]).await;
    let (status, answer) = api
        .post_text(
            "/v1/jobs",
            json!({"kind": "noop", "idempotency_key": "held"}).to_string(),
        )
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        answer["detail"]
            .as_str()
            .unwrap()
            .contains("another open transaction"),
        "{answer}"
    );
    holder.commit().await.unwrap();
    let known = producer
        .enqueue(NewJob {
            idempotency_key: Some("held".into()),
            ..NewJob::new("noop", "{}")
        })
        .await
        .unwrap();
    assert!(known.duplicate);
}

// X63: the same for an id, which a job without a key waits for
#[tokio::test]
async fn x63_only_callers_of_a_held_id_wait_or_are_sent_away() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let held = NewJob::new("noop", "{}");
    let mut holder = lab.pool.begin().await.unwrap();
    assert!(
        producer
            .enqueue_in(&mut holder, vec![held.clone()])
            .await
            .unwrap()[0]
            .is_ok()
    );
    // The first round learns which id is held, the others know.
    for _ in 0..3 {
        let job = |nth: usize| {
            if nth == CALLERS / 3 {
                held.clone()
            } else {
                NewJob::new("noop", "{}")
            }
        };
        let answers = join_all((0..CALLERS).map(|nth| producer.enqueue(job(nth)))).await;
        let each = producer.enqueue_each((0..CALLERS).map(job).collect()).await;
        for (nth, answer) in answers.iter().enumerate().chain(each.iter().enumerate()) {
            match answer {
                Err(Error::Outage(outage)) => {
                    assert!(nth == CALLERS / 3 && is_held(outage), "{nth}: {outage:?}");
                }
                answer => assert!(nth != CALLERS / 3 && answer.is_ok(), "{nth}: {answer:?}"),
            }
        }
    }
    holder.commit().await.unwrap();
    assert!(producer.enqueue(held).await.unwrap().duplicate);
}

/// When the enqueue that waits for a lock of a table began, as often as it begins anew.
const WAITS_SINCE: &str = "SELECT COALESCE(max(extract(epoch FROM query_start) * 1000000), 0)::bigint FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'relation' AND query LIKE '%persist%'";

// X63: a table that is locked for a moment holds up all jobs alike, and sends nobody away
#[tokio::test]
async fn x63_a_table_that_is_locked_for_a_moment_sends_nobody_away() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let job = |nth: usize| {
        let key = nth
            .is_multiple_of(2)
            .then(|| millstream_common::id::new_job_id().to_string());
        NewJob {
            idempotency_key: key,
            ..NewJob::new("noop", "{}")
        }
    };
    let mut holder = lab.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE millstream.job IN SHARE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let callers: Vec<_> = (0..20)
        .map(|nth| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.enqueue(job(nth)).await })
        })
        .collect();
    // Its second try is the patient one.
    let first = eventually("somebody waits", async || {
        Some(lab.number(WAITS_SINCE).await).filter(|since| *since > 0)
    })
    .await;
    eventually("it has been tried again", async || {
        (lab.number(WAITS_SINCE).await > first).then_some(())
    })
    .await;
    holder.rollback().await.unwrap();
    for answer in join_all(callers).await {
        assert!(answer.unwrap().is_ok());
    }
}

// X64: names are looked up once per request
#[tokio::test]
async fn x64_unknown_names_cost_one_look_however_many_they_are() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let job = |nth: usize| match nth % 4 {
        0 => json!({"kind": "noop"}),
        1 => json!({"kind": format!("unknown-{nth}")}),
        2 => json!({"kind": "noop", "queue": format!("unknown-{nth}")}),
        _ => json!({"kind": "noop", "tenant": format!("unknown-{nth}")}),
    };
    let body = json!({"jobs": (0..1000).map(job).collect::<Vec<_>>()}).to_string();
    // One look each would take 375 s. The bound only has to lie far below that.
    let asked =
        tokio::time::timeout(Duration::from_mins(1), api.post_text("/v1/jobs/bulk", body)).await;
    let (status, answer) = asked.expect("the answer comes at once");
    assert_eq!(
        (status, &answer["accepted"], &answer["refused"]),
        (StatusCode::OK, &json!(250), &json!(750))
    );
    for (nth, code) in [
        (1, "unknown_kind"),
        (2, "unknown_queue"),
        (3, "unknown_tenant"),
    ] {
        assert_eq!(answer["results"][nth]["error"]["code"], code);
    }
}
