//! `millstream dev` when its private servers die.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use millstream_tests::{eventually, servers::built};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

/// A running `millstream dev`, which takes its servers and workers along when it ends.
struct Dev {
    child: Child,
    said: std::path::PathBuf,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        let said = folder.join("said");
        let file = std::fs::File::create(&said).unwrap();
        let mut command = Command::new(built("millstream"));
        command
            .args([
                "dev",
                "--workers",
                "1",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(folder.join("data"));
        // Servers of its own, whatever the test run uses.
        command
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .env("MILLSTREAM_LOG", "warn");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, said }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// What stands between two texts in what it said.
    async fn told(&self, before: &str, after: char) -> String {
        eventually(before, async || {
            Some(
                self.said()
                    .split_once(before)?
                    .1
                    .split_once(after)?
                    .0
                    .to_owned(),
            )
        })
        .await
    }

    async fn said_so(&self, text: &str) {
        eventually(text, async || self.said().contains(text).then_some(())).await;
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

async fn accepted(api: &str) -> String {
    eventually("a job is accepted", async || {
        let reply = reqwest::Client::new()
            .post(format!("{api}/v1/jobs"))
            .json(&json!({"kind": "echo"}))
            .send()
            .await
            .ok()?;
        let job: Value = reply.error_for_status().ok()?.json().await.ok()?;
        Some(job["id"].as_str()?.to_owned())
    })
    .await
}

async fn completed(api: &str, job: &str) {
    eventually("the job is done", async || {
        let job: Value = reqwest::get(format!("{api}/v1/jobs/{job}"))
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        (job["state"] == "completed").then_some(())
    })
    .await;
}

async fn redis_pid(url: &str) -> i32 {
    let mut conn = redis::Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let info: String = redis::cmd("INFO")
        .arg("server")
        .query_async(&mut conn)
        .await
        .unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix("process_id:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

async fn postgres_pid(url: &str) -> i32 {
    let mut conn = url
        .parse::<PgConnectOptions>()
        .unwrap()
        .connect()
        .await
        .unwrap();
    let folder: String = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let file = std::fs::read_to_string(Path::new(&folder).join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().trim().parse().unwrap()
}

fn kill9(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

// F60
#[tokio::test]
async fn a_private_server_of_dev_that_is_killed_is_started_again_with_its_data() {
    // A second call only says that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let api = format!("http://{}", dev.told("API on http://", ',').await);
    let (postgres, redis) = (
        dev.told("DATABASE_URL='", '\'').await,
        dev.told("REDIS_URL='", '\'').await,
    );
    let first = accepted(&api).await;
    completed(&api, &first).await;

    kill9(redis_pid(&redis).await);
    dev.said_so("Redis ended by itself").await;
    dev.said_so("server=Redis").await;
    completed(&api, &accepted(&api).await).await;

    kill9(postgres_pid(&postgres).await);
    dev.said_so("Postgres ended by itself").await;
    dev.said_so("server=Postgres").await;
    completed(&api, &accepted(&api).await).await;
    completed(&api, &first).await;
}
