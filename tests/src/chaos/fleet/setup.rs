//! Puts a fleet together: servers, schema, witness, the specification of each process, and the wait until all of it works.

use std::{collections::BTreeMap, net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use millstream_admin::samples;
use millstream_common::{
    pg::{Pg, mark, migrate_up},
    stream::keys::Keys,
};
use millstream_local::{Durability, LocalServices, Options, ServerEnv};

use super::{Clocks, Crew, Fleet, Nest, Slot, Spec, variable};
use crate::{
    chaos::{timeline::Timeline, witness},
    faults::Clock,
    servers::built,
};

/// First part of every key of a run.
const PREFIX: &str = "chaos";
/// The doors of the four producers.
const DOORS: [&str; 4] = ["library", "library", "http", "sql"];
/// Jobs at a time of one worker.
const SLOTS: &str = "8";
/// A run whose fleet is not up by then does not begin.
const START_LIMIT: Duration = Duration::from_mins(2);
/// The sample that is handed in: text and tables, no pictures to recognise.
const DOCUMENT: &str = "letter.pdf";

/// What a run is to look like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Lease of the workers.
    pub lease: Duration,
    /// How long the longest kind takes.
    pub long: Duration,
    /// Jobs a second of all producers.
    pub per_second: u64,
    /// How many workers.
    pub workers: usize,
}

impl Fleet {
    /// Starts everything in a folder of its own and waits until all workers and the API are ready.
    pub async fn start(dir: PathBuf, settings: Settings, timeline: Arc<Timeline>) -> Result<Self> {
        for folder in ["journals", "logs", "samples", "objects"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        samples::write_to(&dir.join("samples"))?;
        let (clocks, env) = clocks(&timeline);
        let options = Options {
            dir: dir.join("services"),
            durability: Durability::Full,
            fresh: true,
            env,
        };
        let services = Arc::new(LocalServices::start(options).await?);
        migrate_up(&services.database_url).await?;
        witness::install(&services.database_url).await?;
        let mark = mark(&Pg::new(&services.database_url, 1)?).await?;
        let crew = Arc::new(Crew {
            nest: Nest::open()?,
            slots: specs(&dir, &settings, &services)?.into(),
            dir: dir.clone(),
            deaths: Vec::new().into(),
            held: Vec::new().into(),
            complaints: Vec::new().into(),
            timeline: timeline.clone(),
        });
        hold_back(&crew, "producer", true);
        let supervisor = tokio::spawn(crew.clone().supervise());
        let fleet = Self {
            settings,
            timeline,
            dir,
            crew,
            supervisor,
            services,
            mark,
            clocks,
            alone: true.into(),
        };
        tokio::time::timeout(START_LIMIT, fleet.until_ready())
            .await
            .context("the fleet is not ready in time")??;
        hold_back(&fleet.crew, "producer", false);
        Ok(fleet)
    }

    /// Kinds are known once a worker has registered them, so producers come last.
    async fn until_ready(&self) -> Result<()> {
        let wanted = self.settings.workers as i64;
        while self
            .number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await?
            < wanted
            || !self.api_is_ready().await
        {
            ensure!(
                self.deaths().is_empty(),
                "a process ended at the start; its log is in {}",
                self.dir.join("logs").display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn api_is_ready(&self) -> bool {
        let asked = reqwest::get(format!("{}/readyz", self.api_url())).await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Where the API listens.
    pub fn api_url(&self) -> String {
        let slots = self.crew.slots();
        let listen = slots
            .get("api")
            .and_then(|slot| slot.spec.args.last().cloned())
            .unwrap_or_default();
        format!("http://{listen}")
    }

    /// Names of this run's keys.
    pub fn keys(&self) -> Keys {
        Keys::new(PREFIX, self.mark.clone())
    }

    /// The first part of them.
    pub fn prefix(&self) -> &'static str {
        PREFIX
    }

    /// Postgres, without anything between.
    pub fn database_url(&self) -> &str {
        &self.services.database_url
    }

    /// Redis, without anything between.
    pub fn redis_url(&self) -> &str {
        &self.services.redis_url
    }
}

/// Clocks of the servers, with what the servers need to read them; none where clocks cannot be moved.
fn clocks(timeline: &Timeline) -> (Option<Clocks>, ServerEnv) {
    match Clock::new().and_then(|postgres| Ok((postgres, Clock::new()?))) {
        Ok((postgres, redis)) => {
            let env = ServerEnv {
                postgres: postgres.env(),
                redis: redis.env(),
            };
            (
                Some(Clocks {
                    postgres: postgres.into(),
                    redis: redis.into(),
                }),
                env,
            )
        }
        Err(e) => {
            timeline.note(&format!("no clock will be moved: {e:#}"));
            (None, ServerEnv::default())
        }
    }
}

fn hold_back(crew: &Crew, prefix: &str, back: bool) {
    crew.slots()
        .iter_mut()
        .filter(|(name, _)| name.starts_with(prefix))
        .for_each(|(_, slot)| slot.wanted = !back);
}

fn specs(
    dir: &std::path::Path,
    settings: &Settings,
    services: &LocalServices,
) -> Result<BTreeMap<String, Slot>> {
    let api = format!("127.0.0.1:{}", free_port()?);
    let env = environment(dir, settings, services);
    let spec = |program: &str, args: &[&str]| Spec {
        program: built(program),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: env.clone(),
        producer: None,
    };
    let mut slots = BTreeMap::new();
    let mut add = |name: &str, spec: Spec| slots.insert(name.to_owned(), Slot::new(name, spec));
    add("api", spec("millstream", &["api", "--listen", &api]));
    for nth in 0..settings.workers {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let name = format!("worker-{nth}");
        add(
            &name,
            spec(
                "chaos_worker",
                &["--concurrency", SLOTS, "--name", &name, "--listen", &listen],
            ),
        );
    }
    let rate = (settings.per_second / DOORS.len() as u64).to_string();
    for (nth, door) in DOORS.into_iter().enumerate() {
        let (seed, url) = (settings.seed.to_string(), format!("http://{api}"));
        let mut spec = spec(
            "chaos_producer",
            &[
                "--door",
                door,
                "--per-second",
                &rate,
                "--seed",
                &seed,
                "--api",
                &url,
            ],
        );
        spec.producer = Some(nth as u64 + 1);
        if door == "http" {
            spec.args.extend([
                "--document".to_owned(),
                dir.join("samples").join(DOCUMENT).display().to_string(),
            ]);
        }
        add(&format!("producer-{nth}"), spec);
    }
    Ok(slots)
}

/// Settings of every process; a case may change those of one.
fn environment(
    dir: &std::path::Path,
    settings: &Settings,
    services: &LocalServices,
) -> BTreeMap<String, String> {
    let pairs = [
        ("DATABASE_URL", services.database_url.clone()),
        ("REDIS_URL", services.redis_url.clone()),
        ("MILLSTREAM_REDIS__PREFIX", PREFIX.to_owned()),
        (
            "MILLSTREAM_OBJECTS__URL",
            format!("file://{}", dir.join("objects").display()),
        ),
        (
            "MILLSTREAM_WORKER__LEASE_MS",
            settings.lease.as_millis().to_string(),
        ),
        ("MILLSTREAM_WORKER__GRACE_MS", "10000".to_owned()),
        // A case adds a queue of its own, for one worker alone.
        ("MILLSTREAM_WORKER__QUEUES", "default,documents".to_owned()),
        // For jobs that kill their worker.
        ("MILLSTREAM_DIAGNOSTICS", "true".to_owned()),
        ("MILLSTREAM_LOG", "info".to_owned()),
        (variable::LONG_MS, settings.long.as_millis().to_string()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A port that is free now, below those that the kernel gives to outgoing connections: one of these could take the port of a
/// process that is being started again.
fn free_port() -> Result<u16> {
    let ports = 12_000..20_000;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let guess = |_| {
        ports.start + (millstream_common::id::entropy() % u64::from(ports.end - ports.start)) as u16
    };
    (0..1000)
        .map(guess)
        .find(free)
        .context("no free port between 12000 and 20000")
}
