//! The snippets of docs/enqueue.md do what the page says.

use std::process::Stdio;

use millstream_tests::{Lab, Served};
use tokio::{io::AsyncWriteExt, process::Command};
use tokio_util::sync::CancellationToken;

const PAGE: &str = include_str!("../../../docs/enqueue.md");

fn snippets(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    let parts = PAGE.split(opening.as_str()).skip(1);
    let found: Vec<_> = parts.filter_map(|rest| rest.split("```").next()).collect();
    assert!(!found.is_empty(), "docs/enqueue.md has no {language}");
    found
}

/// Feeds a snippet to the standard input of a program.
async fn run(lab: &Lab, api: &Served, program: &[&str], snippet: &str) {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .env("DATABASE_URL", lab.config.database.url.expose())
        .env("API_URL", format!("http://{}", api.address()))
        .env("API_TOKEN", lab.config.api.token.expose())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("{} is not installed: {e}", program[0]));
    let mut input = child.stdin.take().unwrap();
    input.write_all(snippet.as_bytes()).await.unwrap();
    drop(input);
    let ended = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program:?}: {snippet}\n{said}");
}

#[tokio::test]
async fn the_snippets_for_enqueuing_enqueue() {
    let lab = Lab::new().await;
    let worker = lab.worker().await;
    let api = Served::start(&lab, &["api"]).await;
    let url = lab.config.database.url.expose();
    for sql in snippets("sql") {
        let psql = ["psql", url, "-v", "ON_ERROR_STOP=1", "-q", "-f", "-"];
        run(&lab, &api, &psql, sql).await;
    }
    for python in snippets("python") {
        run(&lab, &api, &["python3", "-"], python).await;
    }
    for js in snippets("js") {
        let node = ["node", "--input-type=module", "-"];
        run(&lab, &api, &node, js).await;
    }
    // Three by SQL, one by each of the others.
    lab.await_count("completed", 5).await;
    let orders =
        "SELECT count(*) FROM millstream.job_view WHERE payload->>'order_id' IN ('17', '18', '19')";
    assert_eq!(lab.number(orders).await, 3);
    worker.drain(CancellationToken::new()).await;
}
