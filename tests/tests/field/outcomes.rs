//! One outcome that cannot be written holds back no other (X07).

use millstream_tests::{Lab, Starts, ask::send, eventually};
use millstream_worker::{Context, Failure, Handler, Outcome, Success};
use sqlx::Row;
use uuid::Uuid;

/// As a handler may do that makes its result itself.
fn said(text: &str) -> Success {
    Success {
        result: Some(format!("\"{text}\"")),
        ..Success::new()
    }
}

/// Says what it is told to, in one of the ways in which outcomes are written.
fn speaking(starts: &Starts) -> Handler {
    let starts = starts.clone();
    Handler::new("speaking", move |context: Context, way: String| {
        starts.note(context.job_id);
        context.log("a 😀 in a line");
        let outcome: Outcome = match way.as_str() {
            "nul" => Ok(said("a\0b")),
            "result" => Ok(said("a😀b")),
            "counted" => Ok(said("a😀b").and_tokens(Some(7))),
            "failure" => Err(Failure::permanent("no room for 😀")),
            "retry" if context.attempt == 1 => Err(Failure::retry("again: 😀")),
            "tokens" => Ok(Success::new().and_tokens(Some(7))),
            "honest" => Err(Failure::permanent("an honest failure")),
            _ => Ok(said("fine")),
        };
        async move { outcome }
    })
}

/// As a database in an encoding that does not have this letter.
const KNOWS_NO_SMILE: &str = "ALTER TABLE millstream.job ADD CHECK (concat(result, error) NOT LIKE '%😀%');
    ALTER TABLE millstream.job_error ADD CHECK (message NOT LIKE '%😀%'); ALTER TABLE millstream.job_log ADD CHECK (line NOT LIKE '%😀%')";

const WAYS: [&str; 8] = [
    "nul", "result", "counted", "failure", "retry", "tokens", "honest", "fine",
];

async fn of(lab: &Lab, way: &str) -> Vec<(Uuid, String, i32, Option<String>)> {
    // What a job that completed at last has said before stands in its history alone.
    let rows = sqlx::query(
        "SELECT id, state, attempt, COALESCE(error, (SELECT message FROM millstream.job_error WHERE job_id = id ORDER BY epoch DESC LIMIT 1))
         FROM millstream.job_view WHERE payload::text = $1",
    );
    let rows = rows
        .bind(format!("\"{way}\""))
        .fetch_all(&lab.pool)
        .await
        .unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

// X07
#[tokio::test]
async fn x07_an_outcome_that_cannot_be_written_fails_alone_and_once() {
    let lab = Lab::new().await;
    sqlx::raw_sql(KNOWS_NO_SMILE)
        .execute(&lab.pool)
        .await
        .unwrap();
    let starts = Starts::default();
    let _worker = lab.worker_with(vec![speaking(&starts)]).await;
    let producer = lab.producer();
    for round in 0..12 {
        for way in WAYS {
            // Few of those that cannot be written among many that can.
            let jobs = if way == "fine" { 40 } else { 1 + round % 2 };
            send(&producer, "speaking", &format!("\"{way}\""), jobs).await;
        }
    }
    let open = "SELECT count(*) FROM millstream.job WHERE state NOT IN (2, 8)";
    eventually("every job has ended", async || {
        (lab.number(open).await == 0).then_some(())
    })
    .await;
    for way in WAYS {
        let tries = if way == "retry" { 2 } else { 1 };
        let (end, error) = match way {
            "nul" | "result" | "counted" => ("dead", Some("its result cannot be stored")),
            "failure" => ("dead", Some("no room for \\u{1f600}")),
            "honest" => ("dead", Some("an honest failure")),
            _ => ("completed", None),
        };
        for (id, state, attempts, told) in of(&lab, way).await {
            assert_eq!(
                (state.as_str(), attempts, starts.of(id)),
                (end, tries, tries as usize),
                "{way}: {told:?}"
            );
            assert!(
                error.is_none_or(|error| told.as_ref().is_some_and(|told| told.contains(error))),
                "{way}: {told:?}"
            );
        }
    }
    lab.await_number("SELECT count(*) FROM millstream.job_error WHERE class = 'retry' AND message = 'again: \\u{1f600}'", 12).await;
    let dead = "SELECT count(*) FROM millstream.dead_letter WHERE reason <> 'permanent'";
    assert_eq!(
        (
            lab.number(dead).await,
            lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
                .await
        ),
        (0, 0)
    );
    // F12: the others of a batch have no tokens.
    let counted = "SELECT count(*) * 1000 + count(*) FILTER (WHERE tokens_actual = 7 AND result IS NULL) FROM millstream.job WHERE state = 2 AND tokens_actual IS NOT NULL";
    assert_eq!(lab.number(counted).await, 18_018);
    lab.await_drained("default").await;
    lab.await_number(
        "SELECT count(*) FROM millstream.job_log WHERE line = 'a \\u{1f600} in a line'",
        1,
    )
    .await;
}
