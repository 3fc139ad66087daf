//! The example crate as its user would have it: its own tests pass, and its program works and ends in order.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::SystemTime,
};

use millstream_tests::{Lab, eventually, servers};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// The newest build of the example's test file. Cargo tells a test where programs are, and not where tests of other crates are.
fn test_program() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let deps = fs::read_dir(own.parent().expect("deps")).expect("deps can be listed");
    let named = deps.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = named
        .filter(|path| is_program(path, "own_handlers_tests-"))
        .max_by_key(|path| built_at(path));
    newest.expect("the tests of the example are built: build with --workspace --tests")
}

fn is_program(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.extension().is_none() && name.is_some_and(|name| name.starts_with(prefix))
}

fn built_at(path: &Path) -> SystemTime {
    let meta = fs::metadata(path).expect("a program that was listed");
    meta.modified().expect("files have times")
}

#[tokio::test]
async fn the_tests_of_the_example_pass() {
    let servers = tokio::task::spawn_blocking(servers::servers)
        .await
        .expect("the servers start");
    let tests = Command::new(test_program())
        .args(["--test-threads", "2"])
        .env("DATABASE_URL", &servers.database_url)
        .env("REDIS_URL", &servers.redis_url)
        .output();
    let ended = tests.await.expect("the tests start");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("4 passed"), "{said}");
}

fn program(lab: &Lab, port: u16) -> Child {
    Command::new(servers::built("own-handlers"))
        .args(["--concurrency", "2", "--listen"])
        .arg(format!("127.0.0.1:{port}"))
        .env("DATABASE_URL", lab.config.database.url.expose())
        .env("REDIS_URL", lab.config.redis.url.expose())
        .env("MILLSTREAM_REDIS__PREFIX", &lab.config.redis.prefix)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}

#[tokio::test]
async fn the_program_of_the_example_runs_its_kinds_and_no_others_and_ends_in_order() {
    let lab = Lab::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Given up again: the program binds it a moment later.
    drop(listener);
    let mut child = program(&lab, port);
    let ready = format!("http://127.0.0.1:{port}/readyz");
    eventually("the program is ready", async || {
        let reply = reqwest::get(&ready).await.ok()?;
        reply.status().is_success().then_some(())
    })
    .await;
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics"));
    let metrics = metrics.await.unwrap().text().await.unwrap();
    assert!(metrics.contains("millstream_"), "{metrics}");
    sqlx::query("SELECT millstream.enqueue('greet', '{\"name\":\"Ada\"}')")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_count("completed", 1).await;
    let kinds = "SELECT array_agg(k.name::text ORDER BY k.name) FROM millstream.worker w JOIN millstream.kind k ON k.id = ANY(w.kinds)";
    let kinds: Vec<String> = sqlx::query_scalar(kinds)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(kinds, ["greet", "invoice"]);
    let pid = Pid::from_raw(child.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let state: String = sqlx::query_scalar("SELECT state FROM millstream.worker")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(state, "stopped");
}
