//! I2 to I5: nothing runs that was not asked for; one outcome is accepted; hand-outs have epochs of their own; runs of a job
//! overlap only where the fault allows it. And of I6: what was asked for is not buried.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{
    Broken, Class, Evidence, Verdict, Violation, Window, asked::AllAsked, rows::CRASHES_MAX, state,
};
use crate::chaos::journal::{ALIVE_EVERY, Event, Handout, How, Line, Micros};

/// Where an entry is repeated, a second hand-out of the same epoch begins in the job's first 200 ms, or a little later on a
/// machine under load: the lessor looks every 20 ms, and its statement takes its time.
const REPEATED_WITHIN: Micros = 1_500_000;
/// What a fault leaves behind shows a little after work flows again, or after a worker goes on: what it had in hand, a retry.
const AFTERMATH: Micros = 10_000_000;

/// One run of a job, from its start to its end or its process's death.
#[derive(Debug, Clone)]
struct Run {
    handout: Handout,
    process: String,
    from: Micros,
    to: Micros,
    how: Option<How>,
}

pub(super) fn check(evidence: &Evidence, asked: &AllAsked, verdict: &mut Verdict) {
    let by_job = collect(evidence, verdict);
    for runs in by_job.values() {
        asked_for(runs, asked, verdict);
        for (nth, run) in runs.iter().enumerate() {
            verdict.violations.extend(
                runs[..nth]
                    .iter()
                    .filter_map(|before| fence(evidence, before, run)),
            );
            let mut beside = runs[..nth]
                .iter()
                .filter(|before| before.to > run.from)
                .peekable();
            if beside.peek().is_some() {
                verdict.overlaps.push(run.from);
            }
            // One excuse does not excuse another.
            verdict
                .violations
                .extend(beside.find_map(|before| overlap(evidence, before, run)));
        }
    }
    acceptance(evidence, &by_job, verdict);
    burials(evidence, asked, verdict);
}

/// Runs by job, each in the order of their starts.
fn collect(evidence: &Evidence, verdict: &mut Verdict) -> BTreeMap<Uuid, Vec<Run>> {
    let ends: HashMap<&str, Micros> = evidence
        .ends
        .iter()
        .map(|end| (end.process.as_str(), end.at))
        .collect();
    let mut by_job: BTreeMap<Uuid, Vec<Run>> = BTreeMap::new();
    for (process, lines) in &evidence.journals {
        let gone = ends.get(process.as_str()).copied().unwrap_or(evidence.at);
        let children = last_seen(lines);
        let mut open: HashMap<(Uuid, i32), Run> = HashMap::new();
        for line in lines {
            match line.event {
                Event::Start(handout, _, pid) => {
                    let run = Run {
                        handout,
                        process: process.clone(),
                        from: line.at,
                        to: children.get(&pid).map_or(gone, |seen| gone.min(*seen)),
                        how: None,
                    };
                    // The same hand-out twice in one process: the first one never ended, and both are judged.
                    if let Some(first) = open.insert((handout.job, handout.epoch), run) {
                        by_job.entry(handout.job).or_default().push(first);
                    }
                }
                Event::End(handout, how) => match open.remove(&(handout.job, handout.epoch)) {
                    Some(run) => by_job.entry(handout.job).or_default().push(Run {
                        to: line.at,
                        how: Some(how),
                        ..run
                    }),
                    None => verdict.violations.push(Violation::new(
                        Broken::Case,
                        line.at,
                        format!("{process} ended {handout:?} that it never began"),
                    )),
                },
                _ => {}
            }
        }
        for run in open.into_values() {
            by_job.entry(run.handout.job).or_default().push(run);
        }
    }
    for runs in by_job.values_mut() {
        runs.sort_by_key(|run| run.from);
    }
    by_job
}

/// Until when the children of a worker may have lived.
fn last_seen(lines: &[Line]) -> HashMap<u32, Micros> {
    let seen = lines.iter().filter_map(|line| match line.event {
        Event::Alive(pid) => Some((pid, line.at + ALIVE_EVERY.as_micros() as Micros)),
        _ => None,
    });
    seen.collect()
}

fn asked_for(runs: &[Run], asked: &AllAsked, verdict: &mut Verdict) {
    for run in runs {
        let token = run.handout.token;
        let text = match asked.get(&token) {
            None => format!("{} ran token {token}, which nobody asked for", run.process),
            Some(asked) if asked.at > run.from => {
                format!("{} ran token {token} before it was asked for", run.process)
            }
            Some(_) => continue,
        };
        verdict
            .violations
            .push(Violation::new(Broken::Phantom, run.from, text));
    }
}

/// Windows of a class that a moment lies in.
fn windows(evidence: &Evidence, class: Class, at: Micros) -> impl Iterator<Item = &Window> {
    evidence.windows.iter().filter(move |w| {
        w.classes.contains(&class) && w.from <= at && at <= w.flowed.unwrap_or(w.healed) + AFTERMATH
    })
}

/// Whether a run was in a process that stood still, and another one could therefore begin beside it at that moment: because it
/// had this one in hand then, or began it when it went on.
fn was_held(evidence: &Evidence, run: &Run, at: Micros) -> bool {
    let around =
        |from: Micros, to: Micros| from <= at && at <= to + AFTERMATH && run.from <= to + AFTERMATH;
    evidence
        .held
        .iter()
        .any(|held| held.process == run.process && around(held.from, held.to))
}

/// Of two runs the one that was replaced: by its epoch, since it may also have begun later than the one that replaced it.
fn replaced<'a>(before: &'a Run, run: &'a Run) -> &'a Run {
    if run.handout.epoch < before.handout.epoch {
        run
    } else {
        before
    }
}

/// Beside another fault a job's first moments last as long as that fault: what is frozen or away grants no lease.
fn repeated(evidence: &Evidence, before: &Run, run: &Run) -> bool {
    windows(evidence, Class::Repeat, run.from)
        .any(|w| w.classes.len() > 1 || run.from - before.from <= REPEATED_WITHIN)
}

fn fence(evidence: &Evidence, before: &Run, run: &Run) -> Option<Violation> {
    let (first, second) = (before.handout.epoch, run.handout.epoch);
    if second > first {
        return None;
    }
    // What a frozen process had in hand begins, under its old epoch, when it thaws. Where two were handed the same job at once, either may
    // begin first.
    let excused =
        repeated(evidence, before, run) || second < first && was_held(evidence, run, run.from);
    (!excused).then(|| Violation::new(Broken::Fence, run.from, between(before, run)))
}

fn overlap(evidence: &Evidence, before: &Run, run: &Run) -> Option<Violation> {
    let excused =
        was_held(evidence, replaced(before, run), run.from) || repeated(evidence, before, run);
    (!excused).then(|| Violation::new(Broken::Overlap, run.from, between(before, run)))
}

fn between(before: &Run, run: &Run) -> String {
    let ms = |from: Micros, to: Micros| to.saturating_sub(from) / 1000;
    format!(
        "job {} ran at epoch {} in {} ({} ms, {:?}) and from {} ms after its start at epoch {} in {} ({} ms, {:?})",
        run.handout.job,
        before.handout.epoch,
        before.process,
        ms(before.from, before.to),
        before.how,
        ms(before.from, run.from),
        run.handout.epoch,
        run.process,
        ms(run.from, run.to),
        run.how,
    )
}

fn acceptance(evidence: &Evidence, by_job: &BTreeMap<Uuid, Vec<Run>>, verdict: &mut Verdict) {
    let mut completed: HashMap<Uuid, Vec<i32>> = HashMap::new();
    for step in evidence
        .settled
        .iter()
        .filter(|step| step.state == state::COMPLETED)
    {
        completed.entry(step.job).or_default().push(step.epoch);
    }
    for row in evidence.rows.iter().filter(|row| row.token.is_some()) {
        let runs = by_job.get(&row.job).map_or(&[][..], Vec::as_slice);
        let good: HashSet<i32> = runs
            .iter()
            .filter(|run| run.how == Some(How::Ok))
            .map(|run| run.handout.epoch)
            .collect();
        let at = runs.last().map(|run| run.from);
        let text = match completed.get(&row.job).map_or(&[][..], Vec::as_slice) {
            [] if row.state == state::COMPLETED => "is completed and was never accepted".to_owned(),
            [epoch] if row.state == state::COMPLETED && *epoch != row.epoch => {
                format!("was accepted at epoch {epoch}, its row says {}", row.epoch)
            }
            [epoch] if !good.contains(epoch) => {
                format!("was accepted at epoch {epoch}, at which no run succeeded")
            }
            [] | [_] => continue,
            several => format!(
                "was accepted {} times, at epochs {several:?}",
                several.len()
            ),
        };
        verdict.violations.push(Violation::new(
            Broken::AcceptedTwice,
            at,
            format!("job {} {text}", row.job),
        ));
    }
}

/// I6. Jobs fail at most twice of ten attempts, and their servers come back: no fault may bury one. But the
/// deaths of workers that ran a job isolated have a bound, whoever caused them.
fn burials(evidence: &Evidence, asked: &AllAsked, verdict: &mut Verdict) {
    for row in evidence.rows.iter().filter(|row| row.state == state::DEAD) {
        let Some(asked) = row
            .token
            .and_then(|token| asked.get(&token))
            .filter(|asked| !asked.may_die)
        else {
            continue;
        };
        // The faults have ended so many workers while they ran it.
        if row.attempt < row.max_attempts && row.crash_count >= CRASHES_MAX {
            verdict.mistaken += 1;
            continue;
        }
        let text = format!(
            "job {} ({}) is dead after {} of {} attempts and {} crashes, and no case wanted that",
            row.job, row.kind, row.attempt, row.max_attempts, row.crash_count
        );
        verdict
            .violations
            .push(Violation::new(Broken::Attempts, asked.ok, text));
    }
}
