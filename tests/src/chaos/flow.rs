//! Whether work flows: read from the journals while they are written; Postgres is only asked which jobs are dead.
//!
//! Full flow after a moment: of every producer, a job asked for after it has succeeded; every job that waited for its first or
//! next run at that moment has got it; and none waits longer than a few seconds.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    fleet::Fleet,
    journal::{self, Event, How, Line, Micros, Token, now},
};

/// A job that is due and has not been started for this long does not flow: dispatch takes 50 ms, a retry 2 s, and the rest
/// is for a machine under load.
const OVERDUE: Micros = 5_000_000;
/// How often the journals are read.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One journal as far as it was read.
#[derive(Default)]
struct Tail {
    offset: u64,
    rest: String,
}

/// A job that was asked for and has not succeeded yet.
#[derive(Default)]
struct Open {
    asked: Micros,
    producer: String,
    accepted: bool,
    running: HashSet<String>,
    last: Micros,
}

/// Counters of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Answered OK.
    pub enqueued: u64,
    /// Succeeded at least once.
    pub finished: u64,
}

/// What the journals say so far.
pub struct Flow {
    folder: PathBuf,
    tails: HashMap<PathBuf, Tail>,
    open: HashMap<Token, Open>,
    done: HashSet<Token>,
    newest: BTreeMap<String, Micros>,
    deaths: usize,
    counts: Counts,
}

impl Flow {
    /// Of the journals in the fleet's folder.
    pub fn new(fleet: &Fleet) -> Self {
        Self {
            folder: fleet.dir().join("journals"),
            tails: HashMap::new(),
            open: HashMap::new(),
            done: HashSet::new(),
            newest: fleet
                .names("producer")
                .into_iter()
                .map(|name| (name, 0))
                .collect(),
            deaths: 0,
            counts: Counts::default(),
        }
    }

    /// Reads what is new. Workers first: what they began was asked for before, so the intents that are read after them
    /// are all there.
    pub fn read(&mut self, fleet: &Fleet) -> Result<Counts> {
        // Before the journals: what a dead process wrote is then all read.
        let deaths = fleet.deaths();
        let mut fresh = Vec::new();
        for (process, path) in journal::files(&self.folder)?.into_iter().rev() {
            for line in self.tails.entry(path.clone()).or_default().lines(&path)? {
                fresh.push((process.clone(), line));
            }
        }
        fresh.sort_by_key(|(_, line)| line.at);
        for (process, line) in &fresh {
            self.take(process, line);
        }
        for death in &deaths[self.deaths..] {
            for open in self.open.values_mut() {
                if open.running.remove(&death.process) {
                    open.last = open.last.max(death.at);
                }
            }
        }
        self.deaths = deaths.len();
        Ok(self.counts)
    }

    fn take(&mut self, process: &str, line: &Line) {
        let place = process.rsplit_once('.').map_or(process, |(place, _)| place);
        match &line.event {
            // Only the producers': a case may ask for work that is cancelled.
            Event::Intent(token) if self.newest.contains_key(place) => {
                self.open.insert(
                    *token,
                    Open {
                        asked: line.at,
                        producer: place.to_owned(),
                        last: line.at,
                        ..Open::default()
                    },
                );
            }
            Event::Ok(token, _) => {
                self.counts.enqueued += 1;
                if let Some(open) = self.open.get_mut(token) {
                    open.accepted = true;
                    open.last = open.last.max(line.at);
                }
            }
            Event::Start(run, ..) => {
                if let Some(open) = self.open.get_mut(&run.token) {
                    open.running.insert(process.to_owned());
                }
            }
            Event::End(run, how) => self.end(process, run.token, *how, line.at),
            _ => {}
        }
    }

    fn end(&mut self, process: &str, token: Token, how: How, at: Micros) {
        if how == How::Ok {
            self.counts.finished += u64::from(self.done.insert(token));
            if let Some(open) = self.open.remove(&token) {
                let newest = self.newest.entry(open.producer).or_default();
                *newest = open.asked.max(*newest);
            }
        } else if let Some(open) = self.open.get_mut(&token) {
            open.running.remove(process);
            open.last = open.last.max(at);
        }
    }

    /// Jobs that wait for a run since before a moment, or for too long.
    fn overdue(&self, moment: Micros) -> usize {
        let before = moment.max(now().saturating_sub(OVERDUE));
        // What has no answer yet may never have been written.
        self.open
            .values()
            .filter(|open| open.accepted && open.running.is_empty() && open.last < before)
            .count()
    }

    /// A job that is dead waits for nothing, which the journals cannot tell. That it is dead is not forgiven with that: the judge takes
    /// every burial that no case wanted for a violation.
    async fn forget_dead(&mut self, fleet: &Fleet) {
        // By way of the few dead letters: reading all jobs at every look would keep the fleet from flowing.
        let dead = "SELECT j.payload::jsonb->>'token' FROM millstream.dead_letter d JOIN millstream.job j ON j.id = d.job_id
                    WHERE j.payload::jsonb ? 'token'";
        // Postgres may be away: then it is asked at the next look.
        for token in fleet.texts(dead).await.unwrap_or_default() {
            if let Ok(token) = token.parse::<Token>() {
                self.open.remove(&token);
            }
        }
    }

    fn is_full_since(&self, moment: Micros) -> bool {
        self.newest.values().all(|newest| *newest > moment) && self.overdue(moment) == 0
    }

    /// What keeps it from being full.
    pub fn hindrance(&self, since: Micros) -> String {
        let silent: Vec<&str> = self
            .newest
            .iter()
            .filter(|(_, newest)| **newest <= since)
            .map(|(name, _)| name.as_str())
            .collect();
        format!(
            "{} jobs overdue, nothing new of {silent:?}",
            self.overdue(since)
        )
    }

    /// Waits for full flow after a moment and returns when it was seen; none: not within the bound.
    pub async fn full_since(
        &mut self,
        fleet: &Fleet,
        moment: Micros,
        within: Duration,
    ) -> Result<Option<Micros>> {
        let began = Instant::now();
        loop {
            self.read(fleet)?;
            if self.is_full_since(moment) {
                return Ok(Some(now()));
            }
            if self.overdue(moment) > 0 {
                self.forget_dead(fleet).await;
            }
            if began.elapsed() > within {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Tail {
    /// Whole lines that were added since the last time.
    fn lines(&mut self, path: &PathBuf) -> Result<Vec<Line>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += file.read_to_string(&mut self.rest)? as u64;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines = journal::parse(&self.rest[..whole])?;
        self.rest.drain(..whole);
        Ok(lines)
    }
}
