//! I6 to I9 and I15: attempts and crashes are bounded, final is final, work flowed again, and nothing is left of it.

use super::{Broken, Evidence, Verdict, Violation, state};
use crate::chaos::journal::Micros;

/// Crashes that one job may be in hand at.
pub(super) const CRASHES_MAX: i16 = 7;
/// The kind of the jobs that kill their worker, which has no journal.
const POISON: &str = "crash";
/// Consumers that may be there beside those of the living.
const CONSUMERS_SLACK: i64 = 10;
/// Work flows again within this time after the last fault was healed.
pub const FLOW_LIMIT: Micros = 30_000_000;

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let all = attempts(evidence)
        .chain(poison(evidence))
        .chain(finality(evidence))
        .chain(flow(evidence))
        .chain(redis(evidence))
        .chain(hygiene(evidence));
    verdict.violations.extend(all);
}

fn attempts(evidence: &Evidence) -> impl Iterator<Item = Violation> {
    let bad = evidence
        .rows
        .iter()
        .filter(|row| row.attempt > row.max_attempts || row.crash_count > CRASHES_MAX);
    bad.map(|row| {
        let text = format!(
            "job {} has {} of {} attempts and {} crashes",
            row.job, row.attempt, row.max_attempts, row.crash_count
        );
        Violation::new(Broken::Attempts, None, text)
    })
}

/// A job that kills its worker cannot end in any other way.
fn poison(evidence: &Evidence) -> impl Iterator<Item = Violation> {
    let bad = evidence
        .rows
        .iter()
        .filter(|row| row.kind == POISON && row.state != state::DEAD);
    bad.map(|row| {
        Violation::new(
            Broken::Attempts,
            None,
            format!(
                "job {}, which kills its worker, is in state {}",
                row.job, row.state
            ),
        )
    })
}

fn finality(evidence: &Evidence) -> impl Iterator<Item = Violation> {
    let bad = evidence
        .left
        .iter()
        .filter(|left| !(left.audited && left.was == state::DEAD && left.became == 0));
    bad.map(|left| {
        Violation::new(
            Broken::Final,
            None,
            format!(
                "job {} changed from state {} to {}",
                left.job, left.was, left.became
            ),
        )
    })
}

fn flow(evidence: &Evidence) -> impl Iterator<Item = Violation> {
    let slow = evidence.windows.iter().filter(|w| {
        w.flowed
            .is_none_or(|at| at.saturating_sub(w.healed) > FLOW_LIMIT)
    });
    slow.map(|w| {
        let took = w.flowed.map_or("not at all".to_owned(), |at| {
            format!("after {} s", at.saturating_sub(w.healed) / 1_000_000)
        });
        Violation::new(
            Broken::Flow,
            w.from,
            format!("after {} work flowed again {took}", w.case),
        )
    })
}

fn redis(evidence: &Evidence) -> impl Iterator<Item = Violation> {
    let rest = &evidence.rest;
    let found = [
        (
            rest.entries > 0,
            format!("{} entries are left in the streams", rest.entries),
        ),
        (
            rest.pending > 0,
            format!("{} entries are left pending", rest.pending),
        ),
        (
            rest.consumers > rest.workers + CONSUMERS_SLACK,
            format!("{} consumers for {} workers", rest.consumers, rest.workers),
        ),
    ];
    found
        .into_iter()
        .filter(|(bad, _)| *bad)
        .map(|(_, text)| Violation::new(Broken::Redis, None, text))
}

fn hygiene(evidence: &Evidence) -> impl Iterator<Item = Violation> {
    let rest = &evidence.rest;
    let found = [
        (rest.leases, "leases are left"),
        (rest.parcels, "parcels are left"),
        (rest.idle_in_transaction, "sessions idle in a transaction"),
    ];
    found
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| Violation::new(Broken::Hygiene, None, format!("{count} {what}")))
}
