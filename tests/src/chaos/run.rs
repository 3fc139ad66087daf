//! A run: every case alone, then a random soak of all, then the end of all work and the verdict.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use super::{
    catalogue::{self, Case},
    fleet::Fleet,
    flow::{Counts, Flow},
    journal::{self, now, parse},
    judge::{Broken, End, Evidence, Rest, Verdict, Violation, Window, judge},
    report::{Report, Round},
    rng::Rng,
    witness,
};

/// The load is on for this long before the first fault, so that streams, leases and the mean run times are as they always are.
const WARM_UP: Duration = Duration::from_secs(5);
/// After a heal, how long is waited for full flow. Longer than the promise: how late it came is worth knowing.
const FLOW_WAIT: Duration = Duration::from_secs(90);
/// After the producers have ended, everything becomes final within this time.
const DRAIN_LIMIT: Duration = Duration::from_mins(2);
/// After everything is final, streams, parcels and leases are empty within this time: reconcile looks every 3 s after a
/// grace of 5 s, takeover after two looks 5 s apart.
const TIDY_LIMIT: Duration = Duration::from_mins(1);
/// A process that is told to end has its grace of 10 s, and time to write what it has.
const END_LIMIT: Duration = Duration::from_secs(45);
/// How often the tables are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides the order of cases and all that they draw.
    pub seed: u64,
    /// The whole of the run, without its start and end; the soak fills what the cases leave.
    pub time: Duration,
    /// Only these cases, without a soak.
    pub only: Vec<String>,
    /// Only the quick ones, without a soak.
    pub quick: bool,
}

impl Plan {
    /// The cases, in the order of the run.
    pub fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = catalogue::all();
        for id in &self.only {
            anyhow::ensure!(
                cases.iter().any(|case| case.id == id),
                "there is no case {id}"
            );
        }
        cases.retain(|case| {
            (self.only.is_empty() || self.only.iter().any(|id| id == case.id))
                && (!self.quick || case.quick)
        });
        Rng::of(self.seed, "order").shuffle(&mut cases);
        Ok(cases)
    }
}

/// A run under way.
pub struct Run<'a> {
    fleet: &'a Fleet,
    plan: &'a Plan,
    flow: Flow,
    rounds: Vec<Round>,
}

/// All of it.
pub async fn run(fleet: &Fleet, plan: &Plan) -> Result<Report> {
    let mut run = Run {
        fleet,
        plan,
        flow: Flow::new(fleet),
        rounds: Vec::new(),
    };
    let until = Instant::now() + plan.time;
    sleep(WARM_UP).await;
    run.round("none", &[]).await?;
    for case in plan.cases()? {
        run.round(case.id, &[case]).await?;
    }
    if plan.only.is_empty() && !plan.quick {
        run.soak(until).await?;
    }
    run.finish().await
}

impl Run<'_> {
    /// Injects cases at the same time, each a little after the one before, and waits until all work flows again.
    async fn round(&mut self, name: &str, cases: &[Case]) -> Result<()> {
        let titles: Vec<String> = cases
            .iter()
            .map(|case| format!("{}: {}", case.id, case.title))
            .collect();
        self.fleet
            .timeline
            .note(&format!("== {name} {}", titles.join(" + ")));
        let before = self.flow.read(self.fleet)?;
        let from = now();
        self.inject(name, cases).await?;
        if cases.is_empty() {
            sleep(WARM_UP).await;
        }
        let healed = now();
        let flowed = self.flow.full_since(self.fleet, healed, FLOW_WAIT).await?;
        let after = self.flow.read(self.fleet)?;
        let took = flowed.map_or_else(
            || self.flow.hindrance(healed),
            |at| format!("full flow after {:.1} s", (at - healed) as f64 / 1e6),
        );
        // A machine that others load as well is slow to flow, and that is then no fault of the work.
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        self.fleet.timeline.note(&format!(
            "-- {name} healed: {took}; load {}",
            load.split(' ').next().unwrap_or("unknown")
        ));
        let classes = cases.iter().map(|case| case.class).collect();
        let window = Window {
            case: name.to_owned(),
            classes,
            from,
            healed,
            flowed,
        };
        let counts = Counts {
            enqueued: after.enqueued - before.enqueued,
            finished: after.finished - before.finished,
        };
        self.rounds.push(Round {
            name: name.to_owned(),
            title: titles.join(" + "),
            window,
            counts,
        });
        Ok(())
    }

    async fn inject(&self, round: &str, cases: &[Case]) -> Result<()> {
        self.fleet.set_alone(cases.len() == 1);
        let mut under_way = Vec::new();
        for (nth, case) in cases.iter().enumerate() {
            let mut rng = Rng::of(
                self.plan.seed,
                &if round == case.id {
                    case.id.to_owned()
                } else {
                    format!("{round} {}", case.id)
                },
            );
            let (fleet, case, late) = (self.fleet, *case, nth as u64 * rng.below(4000));
            under_way.push(async move {
                sleep(Duration::from_millis(late)).await;
                let done = (case.inject)(fleet, &mut rng).await;
                catalogue::heal(fleet, case.target)
                    .await
                    .with_context(|| format!("{} cannot be healed", case.id))?;
                anyhow::Ok((case, done))
            });
        }
        let mut under_way = under_way.into_iter();
        let (first, second) = (under_way.next(), under_way.next());
        let (first, second) = tokio::join!(maybe(first), maybe(second));
        for (case, done) in [first?, second?].into_iter().flatten() {
            // Beside another fault a case may not get through with its own orders; alone it must.
            if let Err(e) = done {
                self.fleet
                    .timeline
                    .note(&format!("{} was not injected in full: {e:#}", case.id));
                if self.fleet.is_alone() {
                    self.fleet
                        .complain(format!("{} was not injected: {e:#}", case.id));
                }
            }
        }
        Ok(())
    }

    /// Two cases of different targets at a time, until the time is over.
    async fn soak(&mut self, until: Instant) -> Result<()> {
        let cases = catalogue::all();
        let mut rng = Rng::of(self.plan.seed, "soak");
        let mut nth = 0;
        while Instant::now() < until {
            nth += 1;
            let first = rng.pick(&cases);
            let others: Vec<Case> = cases
                .iter()
                .copied()
                .filter(|case| case.target != first.target)
                .collect();
            let pair: Vec<Case> = std::iter::once(first)
                .chain((!others.is_empty()).then(|| rng.pick(&others)))
                .collect();
            self.round(&format!("soak {nth}"), &pair).await?;
        }
        Ok(())
    }

    /// Ends the load, waits until everything is final, ends the fleet, and judges.
    async fn finish(mut self) -> Result<Report> {
        let fleet = self.fleet;
        fleet
            .timeline
            .note("== end: the producers stop, all work becomes final");
        fleet.end("producer", END_LIMIT).await;
        let final_after = self.drained().await;
        let rest = self.tidy().await?;
        let counts = self.flow.read(fleet)?;
        fleet.end("worker", END_LIMIT).await;
        fleet.end("api", END_LIMIT).await;
        let evidence = self.evidence(rest).await?;
        let mut verdict: Verdict = judge(&evidence);
        let own = fleet
            .complaints()
            .into_iter()
            .map(|text| Violation::new(Broken::Case, None, text));
        verdict.violations.extend(own);
        Ok(Report {
            seed: self.plan.seed,
            rounds: self.rounds,
            evidence,
            verdict,
            counts,
            final_after,
        })
    }

    /// Waits until everything is final, and says what keeps it when that takes longer than the longest job.
    async fn drained(&self) -> Option<Duration> {
        let began = Instant::now();
        let mut patience = self.fleet.settings.long + Duration::from_secs(5);
        let look = async || {
            if began.elapsed() > patience {
                patience += Duration::from_secs(10);
                let open = self.fleet.texts(witness::OPEN_DETAIL).await?;
                self.fleet
                    .timeline
                    .note(&format!("still open: {}", open.join("; ")));
            }
            Ok(self.open_work().await? == 0)
        };
        self.until("all is final", DRAIN_LIMIT, look).await
    }

    async fn open_work(&self) -> Result<i64> {
        Ok(self.fleet.number(witness::OPEN).await?
            + self.fleet.number(witness::OPEN_DOCUMENTS).await?)
    }

    /// Waits for something with a bound; how long it took, none if it did not come.
    async fn until(
        &self,
        what: &str,
        bound: Duration,
        mut look: impl AsyncFnMut() -> Result<bool>,
    ) -> Option<Duration> {
        let began = Instant::now();
        while began.elapsed() < bound {
            match look().await {
                Ok(true) => return Some(began.elapsed()),
                Ok(false) => {}
                Err(e) => self
                    .fleet
                    .timeline
                    .note(&format!("cannot look whether {what}: {e:#}")),
            }
            sleep(LOOK_EVERY).await;
        }
        None
    }

    /// How things stand once they had time to become tidy.
    async fn tidy(&self) -> Result<Rest> {
        let tidy = async || {
            let rest = self.rest().await?;
            // The consumers of the dead are removed every 30 s.
            let has_dead = rest.consumers > rest.workers;
            Ok(!has_dead
                && rest.entries
                    + rest.pending
                    + rest.leases
                    + rest.parcels
                    + rest.idle_in_transaction
                    == 0)
        };
        self.until("all is tidy", TIDY_LIMIT, tidy).await;
        self.rest().await
    }

    async fn rest(&self) -> Result<Rest> {
        let fleet = self.fleet;
        let mut rest = Rest {
            workers: self.plan_workers(),
            ..Rest::default()
        };
        for stream in fleet.streams() {
            rest.entries += fleet.command::<i64>(&["XLEN", &stream]).await?;
            let groups: redis::streams::StreamInfoGroupsReply = fleet
                .command(&["XINFO", "GROUPS", &stream])
                .await
                .unwrap_or_default();
            for group in groups.groups {
                rest.pending += group.pending as i64;
                rest.consumers = rest.consumers.max(group.consumers as i64);
            }
        }
        rest.leases = fleet
            .number("SELECT count(*) FROM millstream.lease")
            .await?;
        rest.parcels = fleet
            .number("SELECT count(*) FROM millstream.parcel")
            .await?;
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '1 s'";
        rest.idle_in_transaction = fleet.number(idle).await?;
        Ok(rest)
    }

    fn plan_workers(&self) -> i64 {
        self.fleet.settings.workers as i64
    }

    async fn evidence(&self, rest: Rest) -> Result<Evidence> {
        let tables = witness::read(self.fleet.database_url()).await?;
        let mut journals = Vec::new();
        let folder: PathBuf = self.fleet.dir().join("journals");
        for (process, path) in journal::files(&folder)? {
            journals.push((process, parse(&std::fs::read_to_string(path)?)?));
        }
        Ok(Evidence {
            journals,
            ends: self
                .fleet
                .deaths()
                .into_iter()
                .map(|death| End {
                    process: death.process,
                    at: death.at,
                    is_fault: death.is_fault,
                })
                .collect(),
            held: self.fleet.all_held(),
            rows: tables.rows,
            settled: tables.settled,
            left: tables.left,
            documents: tables.documents,
            windows: self
                .rounds
                .iter()
                .map(|round| round.window.clone())
                .collect(),
            rest,
            at: now(),
        })
    }
}

async fn maybe<T>(act: Option<impl Future<Output = Result<T>>>) -> Result<Option<T>> {
    match act {
        Some(act) => act.await.map(Some),
        None => Ok(None),
    }
}
