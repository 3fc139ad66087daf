//! `millstream dev`: what it says, what it lets others read, and where its metrics are (X31, X72).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use millstream_tests::{Lab, eventually, servers::built};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::operators::text;

/// A running `millstream dev` at the servers of a lab; it ends with the test.
struct Dev {
    child: Child,
    said: PathBuf,
    data: PathBuf,
}

impl Dev {
    fn start(lab: &Lab, more: &[&str]) -> Self {
        let (said, data) = (lab.folder().join("said"), lab.folder().join("data"));
        let child = command(lab, &data)
            .args(["--workers", "2", "--listen", "127.0.0.1:0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Self { child, said, data }
    }

    async fn told(&self, text: &str) -> String {
        eventually(text, async || {
            Some(fs::read_to_string(&self.said).unwrap()).filter(|said| said.contains(text))
        })
        .await
    }

    fn workers(&self) -> Vec<String> {
        let file: Value =
            serde_json::from_slice(&fs::read(self.data.join("prometheus-workers.json")).unwrap())
                .unwrap();
        file[0]["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| target.as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn command(lab: &Lab, data: &Path) -> Command {
    let mut command = Command::new(built("millstream"));
    command
        .args(["dev", "--data-dir"])
        .arg(data)
        .env("MILLSTREAM_LOG", "warn")
        .env("MILLSTREAM_REDIS__PREFIX", &lab.config.redis.prefix);
    command
        .env("DATABASE_URL", lab.config.database.url.expose())
        .env("REDIS_URL", lab.config.redis.url.expose());
    command
}

async fn metrics(address: &str) -> Option<String> {
    reqwest::get(format!("http://{address}/metrics"))
        .await
        .ok()?
        .text()
        .await
        .ok()
}

#[tokio::test]
async fn x31_dev_says_what_it_uses_and_where_the_metrics_of_its_fleet_are() {
    let lab = Lab::new().await;
    let dev = Dev::start(&lab, &[]);
    let said = dev.told("In another terminal").await;
    assert!(
        said.contains("using the Postgres of DATABASE_URL at 127.0.0.1:")
            && said.contains("using the Redis of REDIS_URL"),
        "{said}"
    );
    assert!(
        !said.contains("starting") && said.contains("dev-1, dev-2 join the fleet of that database"),
        "{said}"
    );
    assert!(
        !said.contains(lab.config.database.url.expose()),
        "a URL that was given is not printed again: {said}"
    );

    let config = dev.data.canonicalize().unwrap().join("prometheus.yml");
    assert!(
        said.contains(&format!("prometheus --config.file={}", config.display())),
        "{said}"
    );
    let config = fs::read_to_string(config).unwrap();
    assert!(config.contains("prometheus-workers.json"), "{config}");
    let before = dev.workers();
    assert_eq!(before.len(), 2);
    for address in &before {
        assert!(
            said.contains(&format!("http://{address}/metrics")),
            "{address}: {said}"
        );
        eventually("the worker is scraped", async || {
            metrics(address)
                .await
                .filter(|text| text.contains("millstream_worker_slots"))
        })
        .await;
    }
    eventually("the fleet's figures are among them", async || {
        let all = futures::future::join_all(before.iter().map(|address| metrics(address))).await;
        all.into_iter()
            .flatten()
            .any(|text| {
                text.contains("millstream_leader 1") && text.contains("millstream_queue_jobs{")
            })
            .then_some(())
    })
    .await;

    // A worker that is started again is found again.
    let pid: i32 = sqlx::query_scalar(
        "SELECT pid FROM millstream.worker WHERE name = 'dev-1' ORDER BY id DESC LIMIT 1",
    )
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("it is started again", async || {
        let again: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM millstream.worker WHERE name = 'dev-1' AND state = 'active' AND pid <> $1",
        )
        .bind(pid)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
        (again == 1).then_some(())
    })
    .await;
    assert_eq!(dev.workers(), before, "where it was");
}

#[tokio::test]
async fn x31_every_error_of_a_file_names_it() {
    let lab = Lab::new().await;
    let in_the_way = lab.folder().join("in-the-way");
    fs::write(&in_the_way, "").unwrap();
    let (logs, objects) = (
        lab.folder().join("logs-in-the-way"),
        lab.folder().join("objects-in-the-way"),
    );
    for (dir, name) in [(&logs, "logs"), (&objects, "objects")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join(name), "").unwrap();
    }
    let cases = [
        (PathBuf::from("/proc/x"), "/proc/x".to_owned()),
        (in_the_way.clone(), in_the_way.display().to_string()),
        (in_the_way.join("below"), in_the_way.display().to_string()),
        (
            logs.clone(),
            logs.canonicalize()
                .unwrap()
                .join("logs")
                .display()
                .to_string(),
        ),
        (
            objects.clone(),
            objects
                .canonicalize()
                .unwrap()
                .join("objects")
                .display()
                .to_string(),
        ),
    ];
    for (dir, named) in cases {
        let output = tokio::task::spawn_blocking({
            let mut command = command(&lab, &dir);
            move || {
                command
                    .args(["--listen", "127.0.0.1:0"])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap()
            }
        });
        let output = output.await.unwrap();
        let said = text(&output.stderr);
        let error = said
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or_else(|| panic!("{said}"));
        assert!(
            error.contains(&named) && error.contains("--data-dir"),
            "{named}: {said}"
        );
    }
}

#[tokio::test]
async fn x72_uploads_and_logs_of_dev_are_for_its_user_alone() {
    let lab = Lab::new().await;
    // Folders of an earlier release, open to everybody.
    for name in ["logs", "objects"] {
        fs::create_dir_all(lab.folder().join("data").join(name)).unwrap();
    }
    let dev = Dev::start(&lab, &["--samples"]);
    // An upload, a log and a sample are there.
    for name in ["logs", "objects", "samples"] {
        let dir = dev.data.join(name);
        eventually(name, async || {
            (dir.exists() && mode(&dir) == Some(0o700) && private_below(&dir) > 0).then_some(())
        })
        .await;
    }
    for name in ["logs", "objects", "samples"] {
        assert_eq!(mode(&dev.data.join(name)), Some(0o700), "{name}");
    }
    let mut files = 0;
    for name in [
        "logs",
        "objects",
        "samples",
        "prometheus.yml",
        "prometheus-workers.json",
    ] {
        files += private_below(&dev.data.join(name));
    }
    assert!(
        files > 4,
        "logs, samples, uploads, and the two for Prometheus: {files}"
    );
}

/// `None`: it has just gone.
fn mode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

/// How many files there are below; none of them, and no folder, is anybody else's business.
fn private_below(path: &Path) -> usize {
    let Some(mode) = mode(path) else { return 0 };
    assert_eq!(mode & 0o077, 0, "{}", path.display());
    if path.is_file() {
        return 1;
    }
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| private_below(&entry.path()))
        .sum()
}
