//! A thousand JSON texts of a grammar through all four doors: the same answer at each, and what is taken runs and comes back equal.

#[path = "json/grammar.rs"]
mod grammar;

use millstream_admin::ops::request::{self, JobRequest};
use millstream_producer::{NewJob, Producer};
use millstream_tests::{Lab, Served, chaos::rng::Rng, process::run};
use serde_json::Value;
use uuid::Uuid;

/// What was seen in the field (X02, X03, X04), and the ends of each rule.
const SEEN: [&str; 16] = [
    r#"{"n":0e2147483647}"#,
    r#"{"n":1e-20000}"#,
    r#"{"n":1e400}"#,
    r#"{"path":"C:\\u0000dir"}"#,
    r#""\\\u0000""#,
    r#""\ud83d\ude00""#,
    r#""\ude00\ud83d""#,
    r#""\ud83d\\ude00""#,
    "[9.9e307,-17976931348623157e291,0.1e308]",
    "1.7976931348623157e308",
    "0.1e309",
    "[5e-324,1e-1074,0e-1074]",
    "1e-1075",
    "0e-1075",
    "0e1073741822",
    "123456789012345678901234567890.10",
];
/// How many texts; with a share that is refused for each reason.
const TEXTS: usize = 1000;

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn texts() -> Vec<String> {
    let mut rng = Rng::of(13, "json");
    let fixed = SEEN
        .into_iter()
        .map(str::to_owned)
        .chain([124, 125, 200, 5000].map(nested));
    let fixed: Vec<_> = fixed.collect();
    let made = std::iter::repeat_with(|| grammar::text(&mut rng)).take(TEXTS - fixed.len());
    fixed.iter().cloned().chain(made).collect()
}

/// The ids of the jobs that were taken, by the place of their texts.
type Taken = Vec<Option<Uuid>>;

async fn by_library(producer: &Producer, texts: &[String]) -> Taken {
    let jobs = texts
        .iter()
        .map(|text| NewJob::new("echo", text.as_str()))
        .collect();
    producer
        .enqueue_each(jobs)
        .await
        .into_iter()
        .map(|answer| answer.ok().map(|job| job.id))
        .collect()
}

async fn by_http(api: &Served, texts: &[String]) -> Taken {
    let jobs: Vec<_> = texts
        .iter()
        .map(|text| format!(r#"{{"kind":"echo","payload":{text}}}"#))
        .collect();
    let (status, answer) = api
        .post_text("/v1/jobs/bulk", format!("[{}]", jobs.join(",")))
        .await;
    assert!(status.is_success(), "{answer}");
    let id = |result: &Value| result["id"].as_str().map(|id| id.parse().unwrap());
    answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(id)
        .collect()
}

/// What the command does with its argument; starting it a thousand times would take minutes.
async fn by_command(producer: &Producer, texts: &[String]) -> Taken {
    let job = |text: &str| {
        let payload = request::json("payload", text).ok()?;
        let request = JobRequest {
            payload,
            ..serde_json::from_str(r#"{"kind":"echo"}"#).unwrap()
        };
        request.into_job().ok().filter(|job| job.check().is_ok())
    };
    let jobs: Vec<_> = texts.iter().map(|text| job(text)).collect();
    let taken = jobs
        .iter()
        .map(|job| job.as_ref().map(|job| job.id))
        .collect();
    let answers = producer
        .enqueue_many(jobs.into_iter().flatten().collect())
        .await
        .unwrap();
    assert!(answers.iter().all(Result::is_ok));
    taken
}

async fn by_sql(lab: &Lab, texts: &[String]) -> Taken {
    let mut conn = lab.pool.acquire().await.unwrap();
    let function =
        "CREATE FUNCTION pg_temp.attempt(t text) RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN
                      RETURN millstream.enqueue('echo', t::jsonb);
                    EXCEPTION WHEN others THEN RETURN NULL; END $$";
    sqlx::raw_sql(function).execute(&mut *conn).await.unwrap();
    let each = sqlx::query_scalar(
        "SELECT pg_temp.attempt(t) FROM unnest($1::text[]) WITH ORDINALITY AS u(t, n) ORDER BY n",
    );
    each.bind(texts).fetch_all(&mut *conn).await.unwrap()
}

fn short(text: &str) -> &str {
    &text[..text
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at < 300)
        .last()
        .unwrap_or(0)]
}

// X02, X03, X04, X05
#[tokio::test]
async fn x02_a_thousand_texts_have_the_same_answer_at_every_door_and_come_back_equal() {
    let lab = Lab::new().await;
    let (producer, api) = (lab.producer(), Served::start(&lab, &["api"]).await);
    let texts = texts();
    let doors = [
        ("library", by_library(&producer, &texts).await),
        ("http", by_http(&api, &texts).await),
        ("command", by_command(&producer, &texts).await),
        ("sql", by_sql(&lab, &texts).await),
    ];
    let mut taken = 0;
    for (nth, text) in texts.iter().enumerate() {
        let answers = doors
            .each_ref()
            .map(|(door, ids)| (*door, ids[nth].is_some()));
        assert!(
            answers
                .iter()
                .all(|(_, is_taken)| *is_taken == answers[0].1),
            "{answers:?} for {}",
            short(text)
        );
        taken += i64::from(answers[0].1);
    }
    assert!(
        (500..950).contains(&taken),
        "the grammar makes good and bad texts: {taken} were taken"
    );
    let _worker = lab.worker().await;
    lab.await_count("completed", 4 * taken).await;
    for (door, ids) in &doors {
        let (ids, texts): (Vec<Uuid>, Vec<&String>) = ids
            .iter()
            .zip(&texts)
            .filter_map(|(id, text)| Some(((*id)?, text)))
            .unzip();
        // Blanks around a value are not part of it.
        let same = if *door == "sql" {
            "SELECT count(*) FROM unnest($1::uuid[], $2::text[]) AS u(id, t) JOIN millstream.job j USING (id)
             WHERE j.payload::jsonb = t::jsonb AND j.result::jsonb = t::jsonb"
        } else {
            "SELECT count(*) FROM unnest($1::uuid[], $2::text[]) AS u(id, t) JOIN millstream.job j USING (id)
             WHERE btrim(j.payload, E' \\t\\n\\r') = btrim(t, E' \\t\\n\\r') AND j.result = btrim(t, E' \\t\\n\\r')"
        };
        let same: i64 = sqlx::query_scalar(same)
            .bind(ids)
            .bind(texts)
            .fetch_one(&lab.pool)
            .await
            .unwrap();
        assert_eq!(same, taken, "by {door}");
    }
}

// The command itself, with texts of each kind
#[tokio::test]
async fn x03_the_command_takes_and_refuses_the_same() {
    let lab = Lab::new().await;
    for (nth, text) in SEEN.iter().enumerate().take(5) {
        let output = run(&lab, &["enqueue", "echo", "--payload", text]).await;
        let expected = if NewJob::new("echo", *text).check().is_ok() {
            0
        } else {
            2
        };
        assert_eq!(
            (nth, output.status.code()),
            (nth, Some(expected)),
            "{text}: {output:?}"
        );
    }
    assert_eq!(lab.number("SELECT count(*) FROM millstream.job").await, 1);
    let error = String::from_utf8(
        run(&lab, &["enqueue", "echo", "--payload", SEEN[2]])
            .await
            .stderr,
    )
    .unwrap();
    assert!(
        error.contains("payload") && error.contains("1e400") && error.trim().lines().count() == 1,
        "{error}"
    );
}
