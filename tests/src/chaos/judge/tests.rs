//! A clean history passes, and each planted violation is found.

use super::*;
use crate::chaos::journal::{Event, Handout, How};

const S: Micros = 1_000_000;

fn job(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn line(at: Micros, event: Event) -> Line {
    Line { at, event }
}

fn handout(token: Token, epoch: i32) -> Handout {
    Handout {
        token,
        job: job(u128::from(token)),
        epoch,
    }
}

fn start(at: Micros, token: Token, epoch: i32) -> Line {
    line(at, Event::Start(handout(token, epoch), 1, 1))
}

fn end(at: Micros, token: Token, epoch: i32, how: How) -> Line {
    line(at, Event::End(handout(token, epoch), how))
}

fn row(token: Token, epoch: i32) -> Row {
    Row {
        job: job(u128::from(token)),
        token: Some(token),
        kind: "chaos.quick".into(),
        state: state::COMPLETED,
        epoch,
        attempt: 1,
        max_attempts: 10,
        crash_count: 0,
    }
}

fn accepted(token: Token, epoch: i32) -> Settled {
    Settled {
        job: job(u128::from(token)),
        epoch,
        state: state::COMPLETED,
    }
}

/// Jobs: 1 ran once; 2 failed first; 3 lost its worker; 4 has no answer and is there; 5 has none and is not; 6 was refused;
/// 7 is a document; 8 was dropped and ran again.
fn clean() -> Evidence {
    let intents = [1, 2, 3, 4, 5, 6, 8].map(|token| line(S + token, Event::Intent(token)));
    let mut producer = vec![line(S, Event::Document(7))];
    producer.extend(intents);
    producer.extend([1, 2, 3, 7, 8].map(|token| line(2 * S, Event::Ok(token, None))));
    producer.extend([
        line(2 * S, Event::Unknown(4, "cut".into())),
        line(2 * S, Event::Failed(6, "no".into())),
    ]);
    let first = vec![
        start(3 * S, 1, 0),
        end(4 * S, 1, 0, How::Ok),
        start(3 * S, 2, 0),
        end(4 * S, 2, 0, How::Fail),
        start(3 * S, 3, 0),
        start(3 * S, 8, 0),
        end(4 * S, 8, 0, How::Dropped),
    ];
    let second = vec![
        start(6 * S, 2, 1),
        end(7 * S, 2, 1, How::Ok),
        start(9 * S, 3, 1),
        end(10 * S, 3, 1, How::Ok),
        start(9 * S, 4, 0),
        end(10 * S, 4, 0, How::Ok),
        start(9 * S, 8, 1),
        end(10 * S, 8, 1, How::Ok),
    ];
    Evidence {
        journals: vec![
            ("producer-0.1".into(), producer),
            ("worker-0.1".into(), first),
            ("worker-1.1".into(), second),
        ],
        held: Vec::new(),
        ends: vec![ended("worker-0.1", 5 * S, true)],
        rows: vec![row(1, 0), row(2, 1), row(3, 1), row(4, 0), row(8, 1)],
        settled: vec![
            accepted(1, 0),
            accepted(2, 1),
            accepted(3, 1),
            accepted(4, 0),
            accepted(8, 1),
        ],
        left: Vec::new(),
        documents: vec![Document {
            token: Some(7),
            state: "completed".into(),
        }],
        windows: vec![window(Class::Crash, 0, 20 * S)],
        rest: Rest {
            workers: 3,
            consumers: 3,
            ..Rest::default()
        },
        at: 100 * S,
    }
}

fn ended(process: &str, at: Micros, is_fault: bool) -> End {
    End {
        process: process.into(),
        at,
        is_fault,
    }
}

fn window(class: Class, from: Micros, to: Micros) -> Window {
    Window {
        case: "F00".into(),
        classes: vec![class],
        from,
        healed: to,
        flowed: Some(to),
    }
}

/// What the judge finds when this is done to a clean history.
fn found(harm: impl FnOnce(&mut Evidence)) -> Vec<Broken> {
    let mut evidence = clean();
    harm(&mut evidence);
    judge(&evidence)
        .violations
        .into_iter()
        .map(|v| v.broken)
        .collect()
}

fn worker(evidence: &mut Evidence, nth: usize) -> &mut Vec<Line> {
    &mut evidence.journals[nth].1
}

#[test]
fn a_clean_history_passes() {
    let verdict = judge(&clean());
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert!(verdict.overlaps.is_empty());
}

// I1
#[test]
fn what_was_answered_ok_and_is_nowhere_is_lost() {
    assert_eq!(found(|e| e.documents.clear()), [Broken::Lost]);
    let without_row = |e: &mut Evidence| {
        e.rows.remove(0);
    };
    assert_eq!(found(without_row), [Broken::Lost]);
    // Unknown at first, and OK when it was asked again.
    let at_last = |e: &mut Evidence| worker(e, 0).push(line(3 * S, Event::Ok(5, None)));
    assert_eq!(found(at_last), [Broken::Lost]);
}

// I1
#[test]
fn what_is_not_final_in_the_end_is_lost() {
    let running = |e: &mut Evidence| {
        e.rows[0].state = 1;
        e.settled.remove(0);
    };
    assert_eq!(found(running), [Broken::Lost]);
    assert_eq!(
        found(|e| e.documents[0].state = "running".into()),
        [Broken::Lost]
    );
    // A job of a pipeline has no token and must end all the same.
    let page = Row {
        token: None,
        kind: "document.chunk".into(),
        state: 0,
        ..row(90, 0)
    };
    assert_eq!(found(|e| e.rows.push(page)), [Broken::Lost]);
}

// I2
#[test]
fn what_nobody_asked_for_is_a_phantom() {
    let there = |e: &mut Evidence| {
        e.rows.push(Row {
            state: state::DEAD,
            ..row(99, 0)
        });
    };
    assert_eq!(found(there), [Broken::Phantom]);
    assert_eq!(
        found(|e| worker(e, 1).extend([start(3 * S, 99, 0), end(4 * S, 99, 0, How::Fail)])),
        [Broken::Phantom]
    );
    assert_eq!(
        found(|e| e.documents.push(Document {
            token: None,
            state: "completed".into()
        })),
        [Broken::Phantom]
    );
    let early = |e: &mut Evidence| worker(e, 1)[0].at = S / 2;
    assert_eq!(found(early), [Broken::Phantom]);
}

// I2
#[test]
fn what_is_there_twice_or_was_refused_is_a_phantom() {
    let twin = Row {
        job: job(77),
        state: state::CANCELLED,
        ..row(4, 0)
    };
    assert_eq!(found(|e| e.rows.push(twin)), [Broken::Phantom]);
    assert_eq!(
        found(|e| e.rows.push(Row {
            state: state::CANCELLED,
            ..row(6, 0)
        })),
        [Broken::Phantom]
    );
}

// I3
#[test]
fn one_outcome_is_accepted_of_a_run_that_succeeded_at_the_epoch_of_the_row() {
    assert_eq!(
        found(|e| e.settled.push(accepted(3, 0))),
        [Broken::AcceptedTwice]
    );
    assert_eq!(
        found(|e| e.settled[0].epoch = 4),
        [Broken::AcceptedTwice],
        "at an epoch that the row does not have"
    );
    let never = |e: &mut Evidence| {
        e.settled.remove(0);
    };
    assert_eq!(found(never), [Broken::AcceptedTwice]);
    // The outcome of the run that failed.
    let of_a_failure = |e: &mut Evidence| (e.settled[1].epoch, e.rows[1].epoch) = (0, 0);
    assert_eq!(found(of_a_failure), [Broken::AcceptedTwice]);
}

// I4
#[test]
fn hand_outs_do_not_share_an_epoch_and_epochs_do_not_fall() {
    let again = |e: &mut Evidence| {
        worker(e, 2).extend([start(8 * S, 1, 0), end(9 * S, 1, 0, How::Dropped)]);
    };
    assert_eq!(found(again), [Broken::Fence]);
    let fallen = |e: &mut Evidence| {
        worker(e, 2).extend([start(11 * S, 2, 0), end(12 * S, 2, 0, How::Dropped)]);
    };
    // Shared with the first run, and lower than the second one's.
    assert_eq!(found(fallen), [Broken::Fence, Broken::Fence]);
}

// I4: only where entries are repeated, and only in a job's first moments
#[test]
fn a_repeated_entry_may_start_a_job_twice_in_its_first_moments() {
    let twice_within = |e: &mut Evidence, after: Micros| {
        worker(e, 2).extend([
            start(3 * S + after, 1, 0),
            end(4 * S + after, 1, 0, How::Dropped),
        ]);
        e.windows.push(window(Class::Repeat, 0, 5 * S));
    };
    assert_eq!(found(|e| twice_within(e, S / 5)), []);
    assert_eq!(found(|e| twice_within(e, 2 * S)), [Broken::Fence]);
    // With Postgres or the first worker frozen, nobody can lease it.
    let beside_another = |e: &mut Evidence| {
        twice_within(e, 2 * S);
        e.windows[1].classes.push(Class::Crash);
    };
    assert_eq!(found(beside_another), []);
}

/// Job 3 begins again while its first worker is still there.
fn overlapping(evidence: &mut Evidence, class: Class) {
    evidence.ends[0].at = 30 * S;
    evidence.windows.push(window(class, 8 * S, 12 * S));
}

fn held(process: &str, from: Micros, to: Micros) -> Held {
    Held {
        process: process.into(),
        from,
        to,
    }
}

// I5
#[test]
fn runs_of_a_job_do_not_overlap_unless_its_first_worker_was_frozen() {
    assert_eq!(found(|e| overlapping(e, Class::Crash)), [Broken::Overlap]);
    assert_eq!(
        found(|e| overlapping(e, Class::Repeat)),
        [Broken::Overlap],
        "6 s are not the first moments"
    );
    let frozen = |e: &mut Evidence| {
        overlapping(e, Class::Freeze);
        e.held.push(held("worker-0.1", 5 * S, 9 * S));
    };
    assert_eq!(found(frozen), []);
    let mut evidence = clean();
    frozen(&mut evidence);
    assert_eq!(
        judge(&evidence).overlaps,
        [9 * S],
        "counted also where it is allowed"
    );
}

// I5
#[test]
fn a_worker_that_was_not_frozen_is_not_excused_by_one_that_was() {
    let of = |process: &'static str, from: Micros, to: Micros| {
        move |e: &mut Evidence| {
            overlapping(e, Class::Freeze);
            e.held.push(held(process, from, to));
        }
    };
    assert_eq!(
        found(|e| overlapping(e, Class::Freeze)),
        [Broken::Overlap],
        "nobody was frozen"
    );
    assert_eq!(found(of("worker-2.1", 5 * S, 9 * S)), [Broken::Overlap]);
    assert_eq!(
        found(of("worker-1.1", 5 * S, 9 * S)),
        [Broken::Overlap],
        "the second worker was frozen, not the first"
    );
    assert_eq!(
        found(of("worker-0.2", 5 * S, 9 * S)),
        [Broken::Overlap],
        "another process in the same place"
    );
    assert_eq!(
        found(of("worker-0.1", 10 * S, 12 * S)),
        [Broken::Overlap],
        "frozen only after it"
    );
}

// I5: one frozen worker of three that have the job
#[test]
fn an_overlap_beside_an_excused_one_is_judged_by_itself() {
    let third = |e: &mut Evidence| {
        overlapping(e, Class::Freeze);
        e.held.push(held("worker-0.1", 5 * S, 9 * S));
        let (started, ended) = (
            start(9 * S + S / 2, 3, 2),
            end(9 * S + S / 2 + 1, 3, 2, How::Dropped),
        );
        e.journals.push(("worker-2.1".into(), vec![started, ended]));
    };
    assert_eq!(found(third), [Broken::Overlap]);
}

// I5: what a frozen process had in hand begins when it thaws
#[test]
fn a_thawed_worker_may_begin_under_an_old_epoch_and_no_other() {
    let begins = |e: &mut Evidence| {
        e.ends.clear();
        // Beside the run at epoch 0, which goes on.
        worker(e, 1).extend([
            start(9 * S + S / 2, 4, -1),
            end(11 * S, 4, -1, How::Dropped),
        ]);
        e.windows.push(window(Class::Freeze, 2 * S, 9 * S));
    };
    let thawed = |e: &mut Evidence| {
        begins(e);
        e.held.extend([held("worker-0.1", 2 * S, 9 * S)]);
    };
    let another = |e: &mut Evidence| {
        begins(e);
        e.held.extend([held("worker-1.1", 2 * S, 9 * S)]);
    };
    assert_eq!(
        found(another),
        [Broken::Fence, Broken::Overlap, Broken::Overlap]
    );
    assert_eq!(found(thawed).len(), 0, "{:?}", found(thawed));
}

// I6
#[test]
fn attempts_and_crashes_are_bounded() {
    assert_eq!(found(|e| e.rows[0].attempt = 11), [Broken::Attempts]);
    assert_eq!(found(|e| e.rows[0].crash_count = 8), [Broken::Attempts]);
}

// I6: the last crash is somebody else's as well as the last attempt
#[test]
fn a_job_that_is_buried_is_told_unless_its_case_wanted_that() {
    let buried = |e: &mut Evidence| {
        (e.rows[1].state, e.rows[1].crash_count) = (state::DEAD, 3);
        e.settled[1].state = state::DEAD;
    };
    assert_eq!(found(buried), [Broken::Attempts]);
    let by_attempts = |e: &mut Evidence| {
        buried(e);
        (e.rows[1].attempt, e.rows[1].crash_count) = (10, 0);
    };
    assert_eq!(found(by_attempts), [Broken::Attempts]);
    // Whether or not its asker has got an answer.
    let unanswered = |e: &mut Evidence| {
        e.rows[3].state = state::DEAD;
        e.settled[3].state = state::DEAD;
    };
    assert_eq!(found(unanswered), [Broken::Attempts]);
    let doomed = |e: &mut Evidence| {
        buried(e);
        worker(e, 0).push(line(3 * S, Event::Doomed(2)));
    };
    assert_eq!(found(doomed), []);
    let another = |e: &mut Evidence| {
        buried(e);
        worker(e, 0).push(line(3 * S, Event::Doomed(1)));
    };
    // One job's doom is no other's.
    assert_eq!(found(another), [Broken::Attempts]);
}

// I6, F15: so many deaths of its workers are the faults' doing
#[test]
fn a_job_is_buried_by_faults_only_after_seven_crashes() {
    let buried = |crashes| {
        move |e: &mut Evidence| {
            (e.rows[2].state, e.rows[2].crash_count) = (state::DEAD, crashes);
            e.settled.remove(2);
        }
    };
    assert_eq!(found(buried(7)), []);
    assert_eq!(found(buried(6)), [Broken::Attempts]);
}

// I5: its worker lives on, and starts another one for the job
#[test]
fn a_run_in_a_child_ends_with_the_child() {
    let again = |alive_until: Option<Micros>| {
        move |e: &mut Evidence| {
            let lines = worker(e, 2);
            lines.retain(|line| !matches!(line.event, Event::End(run, _) if run.token == 3));
            lines.extend(alive_until.map(|at| line(at, Event::Alive(1))));
            lines.push(start(60 * S, 3, 2));
        }
    };
    assert!(!found(again(Some(20 * S))).contains(&Broken::Overlap));
    assert!(found(again(None)).contains(&Broken::Overlap));
    assert!(found(again(Some(70 * S))).contains(&Broken::Overlap));
}

// I7
#[test]
fn a_job_that_kills_its_worker_ends_dead_and_in_no_other_way() {
    let poison = |state| Row {
        token: None,
        kind: "crash".into(),
        state,
        crash_count: 3,
        ..row(99, 3)
    };
    assert_eq!(found(|e| e.rows.push(poison(state::DEAD))), []);
    assert_eq!(
        found(|e| e.rows.push(poison(state::COMPLETED))),
        [Broken::Attempts]
    );
}

#[test]
fn only_an_audited_redrive_of_the_dead_changes_what_is_final() {
    let left = |was, became, audited| Left {
        job: job(1),
        was,
        became,
        audited,
    };
    assert_eq!(found(|e| e.left.push(left(state::DEAD, 0, true))), []);
    assert_eq!(
        found(|e| e.left.push(left(state::DEAD, 0, false))),
        [Broken::Final]
    );
    assert_eq!(
        found(|e| e.left.push(left(state::COMPLETED, state::COMPLETED, true))),
        [Broken::Final]
    );
    assert_eq!(
        found(|e| e.left.push(left(state::CANCELLED, 0, true))),
        [Broken::Final]
    );
}

// I8, I15
#[test]
fn nothing_is_left_when_all_work_is_done() {
    assert_eq!(found(|e| e.rest.entries = 1), [Broken::Redis]);
    assert_eq!(found(|e| e.rest.pending = 1), [Broken::Redis]);
    assert_eq!(found(|e| e.rest.consumers = 14), [Broken::Redis]);
    assert_eq!(found(|e| e.rest.consumers = 13), []);
    assert_eq!(found(|e| e.rest.leases = 1), [Broken::Hygiene]);
    assert_eq!(found(|e| e.rest.parcels = 1), [Broken::Hygiene]);
    assert_eq!(found(|e| e.rest.idle_in_transaction = 1), [Broken::Hygiene]);
}

// I9
#[test]
fn work_flows_again_within_the_bound() {
    assert_eq!(found(|e| e.windows[0].flowed = None), [Broken::Flow]);
    assert_eq!(
        found(|e| e.windows[0].flowed = Some(51 * S)),
        [Broken::Flow]
    );
    assert_eq!(found(|e| e.windows[0].flowed = Some(50 * S)), []);
}

#[test]
fn a_journal_that_cannot_be_true_is_told() {
    assert_eq!(
        found(|e| worker(e, 0).push(line(9 * S, Event::Intent(5)))),
        [Broken::Case]
    );
    assert_eq!(
        found(|e| worker(e, 1).push(end(9 * S, 1, 7, How::Fail))),
        [Broken::Case]
    );
}
