//! The judge: from journals and tables to a verdict. A pure function: no clock, no file, no connection.
//!
//! It trusts neither store: what was asked for and what ran is known from journals, what was accepted from a trigger that the
//! product does not know. The rules are the invariants I1 to I9 and I15: each is a function of [`Evidence`] in `asked`
//! (loss, phantoms, burials), `runs` (acceptance, fence, overlap), or `rows` (attempts, finality, Redis, flow, hygiene).

mod asked;
mod rows;
mod runs;
#[cfg(test)]
mod tests;

use std::fmt;

use uuid::Uuid;

use super::journal::{Line, Micros, Token};

/// Numbers of states as in the table.
pub mod state {
    /// Finished with success.
    pub const COMPLETED: i16 = 2;
    /// Cancelled.
    pub const CANCELLED: i16 = 7;
    /// Dead.
    pub const DEAD: i16 = 8;
}

/// What a fault may lead to, beside work that is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Processes die, connections break, hints get lost: two runs of a job never overlap.
    Crash,
    /// A process is frozen or cut off for longer than its lease: its run may overlap with the one that replaced it. Which process it
    /// was is in [`Held`]; the runs of all others are judged as after a crash.
    Freeze,
    /// Entries come again that were delivered before: two hand-outs may share an epoch, within a job's first moments.
    Repeat,
}

/// A time in which a case had its effects: from its beginning until all work flowed again.
#[derive(Debug, Clone)]
pub struct Window {
    /// The case.
    pub case: String,
    /// What may happen in it: one class for each fault that was injected.
    pub classes: Vec<Class>,
    /// The first fault.
    pub from: Micros,
    /// The last fault was healed.
    pub healed: Micros,
    /// All work flowed again; none: not within the bound.
    pub flowed: Option<Micros>,
}

/// A time in which one process stood still, or was cut off, while the rest of the fleet had reason to take its work.
#[derive(Debug, Clone)]
pub struct Held {
    /// As its journal is named.
    pub process: String,
    /// Before it was frozen.
    pub from: Micros,
    /// After it was let go.
    pub to: Micros,
}

/// The end of a process.
#[derive(Debug, Clone)]
pub struct End {
    /// As its journal is named.
    pub process: String,
    /// When it was seen to be gone.
    pub at: Micros,
    /// A fault ended it, not what it was running.
    pub is_fault: bool,
}

/// A job row at the end.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table")]
pub struct Row {
    pub job: Uuid,
    pub token: Option<Token>,
    pub kind: String,
    pub state: i16,
    pub epoch: i32,
    pub attempt: i16,
    pub max_attempts: i16,
    pub crash_count: i16,
}

/// A step into a final state.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table")]
pub struct Settled {
    pub job: Uuid,
    pub epoch: i32,
    pub state: i16,
}

/// A change of a row that was final.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table")]
pub struct Left {
    pub job: Uuid,
    pub was: i16,
    pub became: i16,
    pub audited: bool,
}

/// A document at the end.
#[derive(Debug, Clone)]
pub struct Document {
    /// Out of its name.
    pub token: Option<Token>,
    /// As the table says.
    pub state: String,
}

/// How things stand when all work is done.
#[derive(Debug, Clone, Default)]
pub struct Rest {
    /// Entries in all work streams.
    pub entries: i64,
    /// Entries pending with anybody.
    pub pending: i64,
    /// Consumers of the group of any one stream, at most.
    pub consumers: i64,
    /// Worker processes that are there.
    pub workers: i64,
    /// Rows of leases.
    pub leases: i64,
    /// Rows of parcels.
    pub parcels: i64,
    /// Sessions that have been idle in a transaction for more than a second.
    pub idle_in_transaction: i64,
}

/// Everything that is known of a run.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "described with their types")]
pub struct Evidence {
    /// By process.
    pub journals: Vec<(String, Vec<Line>)>,
    pub ends: Vec<End>,
    pub held: Vec<Held>,
    pub rows: Vec<Row>,
    pub settled: Vec<Settled>,
    pub left: Vec<Left>,
    pub documents: Vec<Document>,
    pub windows: Vec<Window>,
    pub rest: Rest,
    /// When the evidence was collected.
    pub at: Micros,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// I1: something that was answered OK is not there, or not final.
    Lost,
    /// I2: something ran or is there that nobody asked for, or twice.
    Phantom,
    /// I3: more than one outcome was accepted, or one that nobody produced.
    AcceptedTwice,
    /// I4: two hand-outs share an epoch, or epochs fall.
    Fence,
    /// I5: two runs of a job overlap where they must not.
    Overlap,
    /// I6: too many attempts or crashes, or a job is dead that no case wanted dead.
    Attempts,
    /// I7: a final row changed.
    Final,
    /// I8: Redis is not empty when all work is done.
    Redis,
    /// I9: work did not flow again in time.
    Flow,
    /// I15: Postgres is not clean when all work is done.
    Hygiene,
    /// What a case itself expected did not come true.
    Case,
}

impl Broken {
    /// Its number in the list of invariants.
    pub fn invariant(self) -> &'static str {
        match self {
            Self::Lost => "I1 loss",
            Self::Phantom => "I2 phantom",
            Self::AcceptedTwice => "I3 single acceptance",
            Self::Fence => "I4 fence",
            Self::Overlap => "I5 overlap",
            Self::Attempts => "I6 attempts",
            Self::Final => "I7 final",
            Self::Redis => "I8 Redis",
            Self::Flow => "I9 flow",
            Self::Hygiene => "I15 hygiene",
            Self::Case => "case",
        }
    }
}

/// One broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub broken: Broken,
    /// When, if it has a time.
    pub at: Option<Micros>,
    /// What exactly.
    pub text: String,
}

impl Violation {
    pub(super) fn new(
        broken: Broken,
        at: impl Into<Option<Micros>>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            broken,
            at: at.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.broken.invariant(), self.text)
    }
}

/// What the judge found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Broken promises; none: the run is good.
    pub violations: Vec<Violation>,
    /// When a second run of a job began while another one went on, allowed or not.
    pub overlaps: Vec<Micros>,
    /// Innocent jobs that were taken for killers of workers: faults ended what they ran in, the last time alone. Nobody could tell.
    pub mistaken: usize,
}

/// Judges a run.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let asked = asked::collect(evidence, &mut verdict);
    asked::check(evidence, &asked, &mut verdict);
    runs::check(evidence, &asked, &mut verdict);
    rows::check(evidence, &mut verdict);
    verdict.violations.sort_by_key(|v| (v.broken, v.at));
    verdict
}
