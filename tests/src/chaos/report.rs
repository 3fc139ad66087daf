//! What a run came to: a table per case, totals, and the broken promises.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{
    flow::Counts,
    judge::{Broken, Evidence, Verdict, Window, state},
};

/// Violations that are printed in full.
const SHOWN: usize = 20;

/// One case, or one round of the soak.
#[derive(Debug, Clone)]
pub struct Round {
    /// The case's id.
    pub name: String,
    /// What was injected.
    pub title: String,
    /// Its time, and what may have happened in it.
    pub window: Window,
    /// Jobs while it was under way.
    pub counts: Counts,
}

/// All of it.
pub struct Report {
    /// With which the run can be repeated.
    pub seed: u64,
    /// In their order.
    pub rounds: Vec<Round>,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// What the judge found.
    pub verdict: Verdict,
    /// Jobs of the whole run.
    pub counts: Counts,
    /// How long after the end of the load everything was final.
    pub final_after: Option<Duration>,
}

/// A line of the table.
struct Cells {
    name: String,
    title: String,
    counts: Counts,
    lost: usize,
    phantom: usize,
    twice: usize,
    overlaps: usize,
    flow_s: Option<f64>,
}

impl Report {
    /// No promise was broken.
    pub fn is_good(&self) -> bool {
        self.verdict.violations.is_empty() && self.final_after.is_some()
    }

    /// Broken promises of some kinds in a window, or in all.
    fn broken(&self, kinds: &[Broken], window: Option<&Window>) -> usize {
        let inside = |at: Option<u64>| {
            window.is_none_or(|w| {
                at.is_some_and(|at| w.from <= at && at <= w.flowed.unwrap_or(w.healed))
            })
        };
        self.verdict
            .violations
            .iter()
            .filter(|v| kinds.contains(&v.broken) && inside(v.at))
            .count()
    }

    fn cells(&self, round: &Round) -> Cells {
        let window = &round.window;
        let until = window.flowed.unwrap_or(window.healed);
        Cells {
            name: round.name.clone(),
            title: round.title.clone(),
            counts: round.counts,
            lost: self.broken(&[Broken::Lost], Some(window)),
            phantom: self.broken(&[Broken::Phantom], Some(window)),
            twice: self.broken(&[Broken::AcceptedTwice, Broken::Fence], Some(window)),
            overlaps: self
                .verdict
                .overlaps
                .iter()
                .filter(|at| (window.from..=until).contains(at))
                .count(),
            flow_s: window
                .flowed
                .map(|at| at.saturating_sub(window.healed) as f64 / 1e6),
        }
    }

    fn total(&self) -> Cells {
        let worst = self.rounds.iter().map(|round| self.cells(round).flow_s);
        Cells {
            name: "total".into(),
            title: format!("{} rounds", self.rounds.len()),
            counts: self.counts,
            lost: self.broken(&[Broken::Lost], None),
            phantom: self.broken(&[Broken::Phantom], None),
            twice: self.broken(&[Broken::AcceptedTwice, Broken::Fence], None),
            overlaps: self.verdict.overlaps.len(),
            // Unknown if one never flowed.
            flow_s: worst.reduce(|a, b| Some(a?.max(b?))).flatten(),
        }
    }

    fn in_state(&self, number: i16) -> usize {
        self.evidence
            .rows
            .iter()
            .filter(|row| row.state == number)
            .count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "\n{:9} {:>8} {:>8} {:>5} {:>7} {:>5} {:>8} {:>7}  fault\n",
            "case", "enqueued", "finished", "lost", "phantom", "twice", "overlaps", "flow s"
        );
        for cells in self
            .rounds
            .iter()
            .map(|round| self.cells(round))
            .chain([self.total()])
        {
            let flow = cells
                .flow_s
                .map_or("never".to_owned(), |s| format!("{s:.1}"));
            let Cells {
                name,
                title,
                counts,
                lost,
                phantom,
                twice,
                overlaps,
                ..
            } = cells;
            let (enqueued, finished) = (counts.enqueued, counts.finished);
            let _ = writeln!(
                text,
                "{name:9} {enqueued:>8} {finished:>8} {lost:>5} {phantom:>7} {twice:>5} {overlaps:>8} {flow:>7}  {title}"
            );
        }
        let (completed, dead) = (self.in_state(state::COMPLETED), self.in_state(state::DEAD));
        let drained = self
            .final_after
            .map_or("NOT within the bound".to_owned(), |took| {
                format!("after {:.1} s", took.as_secs_f64())
            });
        let documents = self
            .evidence
            .documents
            .iter()
            .filter(|d| d.state == "completed")
            .count();
        let _ = writeln!(
            text,
            "\nseed {}: {} job rows ({completed} completed, {dead} dead), {documents} of {} documents completed, all final {drained}",
            self.seed,
            self.evidence.rows.len(),
            self.evidence.documents.len(),
        );
        if self.verdict.mistaken > 0 {
            let _ = writeln!(
                text,
                "{} innocent jobs are dead because faults ended three of their workers, the last time alone",
                self.verdict.mistaken
            );
        }
        for violation in self.verdict.violations.iter().take(SHOWN) {
            let _ = writeln!(text, "BROKEN {violation}");
        }
        let more = self.verdict.violations.len().saturating_sub(SHOWN);
        if more > 0 {
            let _ = writeln!(text, "BROKEN and {more} more");
        }
        text
    }

    /// Every broken promise, one per line.
    pub fn violations(&self) -> String {
        self.verdict
            .violations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let line = |cells: Cells| {
            json!({
                "case": cells.name, "fault": cells.title, "enqueued": cells.counts.enqueued, "finished": cells.counts.finished,
                "lost": cells.lost, "phantom": cells.phantom, "accepted_twice": cells.twice, "overlaps": cells.overlaps,
                "seconds_to_flow": cells.flow_s,
            })
        };
        let cases: Vec<Value> = self
            .rounds
            .iter()
            .map(|round| line(self.cells(round)))
            .collect();
        let violations: Vec<String> = self
            .verdict
            .violations
            .iter()
            .map(ToString::to_string)
            .collect();
        json!({ "seed": self.seed, "good": self.is_good(), "cases": cases, "total": line(self.total()), "mistaken": self.verdict.mistaken, "violations": violations })
    }
}
