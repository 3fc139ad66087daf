//! Parameters of addresses and options of commands, at the ends of their ranges and beyond.

use millstream_common::config::Secret;
use millstream_tests::{Lab, Served, ask::send, process::run};
use reqwest::StatusCode;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const JOBS: usize = 3;

/// Jobs that wait, and nobody who runs them.
async fn lab_with_jobs() -> Lab {
    let lab = Lab::new().await;
    lab.worker().await.drain(CancellationToken::new()).await;
    send(&lab.producer(), "echo", "1", JOBS).await;
    lab
}

async fn statuses(api: &Served, cases: &[(&str, u16)]) {
    for (query, expected) in cases {
        let (status, body) = api.json(&format!("/v1/{query}")).await;
        assert_eq!(status.as_u16(), *expected, "{query}: {body}");
        assert!(
            status.is_success()
                || body["detail"]
                    .as_str()
                    .is_some_and(|detail| !detail.is_empty()),
            "{query}: {body}"
        );
    }
}

#[tokio::test]
async fn x08_since_takes_every_time_that_rfc_3339_knows() {
    let lab = lab_with_jobs().await;
    let api = Served::start(&lab, &["api"]).await;
    for (since, jobs) in [
        ("1900-01-01T00:00:00Z", JOBS),
        ("0000-01-01T00:00:00Z", JOBS),
        ("1970-01-01T00:00:00Z", JOBS),
        ("1969-12-31T23:59:59.999Z", JOBS),
        ("2026-01-01T00:00:00%2B02:00", JOBS),
        ("9999-12-31T23:59:59Z", 0),
    ] {
        let (status, page) = api.json(&format!("/v1/jobs?since={since}")).await;
        assert_eq!(
            (status, page["items"].as_array().map(Vec::len)),
            (StatusCode::OK, Some(jobs)),
            "{since}: {page}"
        );
    }
    let malformed = [
        "-9999-01-01T00:00:00Z",
        "%2B12026-01-01T00:00:00Z",
        "yesterday",
        "",
        "2026-01-01T00:00:00+02:00",
    ];
    statuses(
        &api,
        &malformed
            .map(|since| (format!("jobs?since={since}"), 400))
            .each_ref()
            .map(|(query, status)| (query.as_str(), *status)),
    )
    .await;
    let (_, problem) = api.json("/v1/jobs?since=2026-01-01T00:00:00+02:00").await;
    assert!(
        problem["detail"].as_str().unwrap().contains("%2B02:00"),
        "{problem}"
    );
}

#[tokio::test]
async fn x08_filters_of_commands_take_the_same_times() {
    let lab = lab_with_jobs().await;
    let listed = run(
        &lab,
        &["--json", "jobs", "list", "--since", "1900-01-01T00:00:00Z"],
    )
    .await;
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout).lines().count(),
        JOBS
    );
    for command in [
        &["jobs", "list"][..],
        &["jobs", "cancel", "--yes"],
        &["jobs", "retry", "--yes"],
        &["dead", "list"],
        &["dead", "redrive", "--yes"],
    ] {
        for since in [
            "--since=-9999-01-01T00:00:00Z",
            "--since=3000000d",
            "--since=2026-01-01T00:00:00 02:00",
        ] {
            let refused = run(&lab, &[command, &[since]].concat()).await;
            assert_eq!(
                refused.status.code(),
                Some(2),
                "{command:?} {since}: {}",
                String::from_utf8_lossy(&refused.stderr)
            );
        }
    }
    let cancelled = run(
        &lab,
        &["jobs", "cancel", "--since", "1900-01-01T00:00:00Z", "--yes"],
    )
    .await;
    assert_eq!(
        cancelled.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&cancelled.stderr)
    );
    assert_eq!(lab.count("cancelled").await, JOBS as i64);
}

/// The same in SQL, where ids of times before and after all UUIDs are asked for.
#[tokio::test]
async fn x08_the_smallest_id_of_a_moment_rises_with_the_moment() {
    let lab = Lab::new().await;
    let falls = lab
        .number(
            "SELECT count(*) FROM (
               SELECT millstream.uuid_at(moment) AS id, lag(millstream.uuid_at(moment)) OVER (ORDER BY moment) AS before
               FROM unnest(ARRAY['-infinity', '4713-01-01 BC', '0001-01-01', '1900-01-01', '1969-12-31 23:59:59.999Z', '1970-01-01Z',
                                 '1970-01-01 00:00:00.001Z', '2026-01-01', '9999-12-31', '200000-01-01', 'infinity']::timestamptz[]) AS m(moment)
             ) ids WHERE id < before",
        )
        .await;
    assert_eq!(falls, 0);
    assert_eq!(lab.number("SELECT count(*) WHERE millstream.uuid_at('1970-01-01Z') = '00000000-0000-0000-0000-000000000000'").await, 1);
}

#[tokio::test]
async fn x37_values_out_of_range_are_422_and_no_values_400() {
    let lab = lab_with_jobs().await;
    let api = Served::start(&lab, &["api"]).await;
    let (_, page) = api.json("/v1/jobs?limit=1").await;
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    let mut cases = Vec::new();
    for list in ["jobs", "documents"] {
        for (limit, status) in [
            ("1", 200),
            ("500", 200),
            ("0", 422),
            ("501", 422),
            ("1001", 422),
            ("-1", 422),
            ("ten", 400),
            ("1.5", 400),
            ("", 400),
        ] {
            cases.push((format!("{list}?limit={limit}"), status));
        }
        cases.push((format!("{list}?cursor=nonsense"), 400));
        cases.push((format!("{list}?colour=red"), 400));
    }
    for (wait, status) in [
        ("0", 200),
        ("0.01", 200),
        ("-1", 422),
        ("60.1", 422),
        ("NaN", 422),
        ("inf", 422),
        ("soon", 400),
    ] {
        cases.push((format!("jobs/{id}/wait?timeout_s={wait}"), status));
    }
    for (page, status) in [("0", 422), ("-1", 422), ("one", 400), ("1", 404)] {
        cases.push((format!("documents/{id}?from_page={page}"), status));
    }
    cases.extend([
        ("jobs?state=available".to_owned(), 200),
        ("jobs?state=asleep".to_owned(), 422),
        ("workers?all=perhaps".to_owned(), 400),
    ]);
    let cases: Vec<_> = cases
        .iter()
        .map(|(query, status)| (query.as_str(), *status))
        .collect();
    statuses(&api, &cases).await;
}

#[tokio::test]
async fn x37_doctor_ends_with_2_when_a_url_is_malformed() {
    let lab = Lab::new().await;
    let with = |database: &str, redis: &str| {
        let mut config = lab.config.clone();
        config.database.url = Secret::new(database);
        config.redis.url = Secret::new(redis);
        config
    };
    let (database, redis) = (
        lab.config.database.url.expose(),
        lab.config.redis.url.expose(),
    );
    for config in [
        with(database, "nonsense"),
        with(database, "http://127.0.0.1"),
        with("mysql://h/x", redis),
        with("nonsense", "nonsense"),
    ] {
        let doctor = millstream_tests::process::run_in(&config, &["--json", "doctor"]).await;
        let report = String::from_utf8_lossy(&doctor.stdout);
        assert_eq!(doctor.status.code(), Some(2), "{report}");
        let failed: Vec<Value> = report
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|check: &Value| check["level"] == "fail")
            .collect();
        assert!(
            failed
                .iter()
                .any(|check| check["detail"].as_str().unwrap().contains("_URL")),
            "{report}"
        );
    }
}
