//! Explain: why a job stands where it stands, and what to do about it, in one honest sentence.
//!
//! It reads what dispatch and recovery read, a moment later: the answer is true of that moment.

use chrono::{DateTime, Utc};
use millstream_common::{id::JobId, pg::Pg, state::State};
use serde::Serialize;
use sqlx::FromRow;

use super::{Outage, kinds::in_the_box, row, workers::SILENT_AFTER};

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Which job.
    pub id: JobId,
    /// Its state.
    pub state: String,
    /// One word for programs: `paused`, `no_worker`, `put_off`, `backlog`, `in_stream`, `put_back`, `running`,
    /// `worker_silent`, `waiting`, `final`, `dead` or `unlisted`.
    pub reason: &'static str,
    /// One sentence for people.
    pub text: String,
    /// What would change it, if anything.
    pub advice: Option<String>,
}

#[derive(Debug, Default, FromRow)]
struct Facts {
    state: i16,
    attempt: i16,
    max_attempts: i16,
    kind: String,
    queue: String,
    tenant: String,
    kind_paused: bool,
    queue_paused: bool,
    tenant_paused: bool,
    ready_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    error: Option<String>,
    live_workers: i64,
    /// Live workers that run the kind, whatever they read.
    kind_workers: i64,
    /// The last worker that ran the kind.
    last_worker: Option<String>,
    leased_at: Option<DateTime<Utc>>,
    lease_worker: Option<String>,
    lease_silent: Option<bool>,
    dead_reason: Option<String>,
    parcel_id: Option<i64>,
    publishing_since: Option<DateTime<Utc>>,
    not_before: Option<DateTime<Utc>>,
    jobs_ahead: Option<i64>,
    /// Class of the last entry of its history, and whether that used up a try.
    last_class: Option<String>,
    last_counted: Option<bool>,
}

/// The explanation, or `None` if there is no such job.
pub async fn explain(pg: &Pg, id: JobId) -> Result<Option<Explanation>, Outage> {
    let query = sqlx::query_as::<_, Facts>(FACTS)
        .bind(id)
        .bind(SILENT_AFTER.as_secs_f64());
    Ok(row(pg, "explaining a job", query)
        .await?
        .map(|facts| judge(id, &facts)))
}

/// `$2`: a worker without a beat for so many seconds is not live.
const FACTS: &str = "WITH live AS (
    SELECT w.queues, w.kinds FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id
    WHERE w.ended_at IS NULL AND w.state = 'active' AND b.beat_at > now() - make_interval(secs => $2)
  ) SELECT j.state, j.attempt, j.max_attempts, k.name::text AS kind, q.name::text AS queue, t.name::text AS tenant,
    j.kind_id = ANY(c.kinds) AS kind_paused, j.queue_id = ANY(c.queues) AS queue_paused, j.tenant_id = ANY(c.tenants) AS tenant_paused, j.ready_at, j.finished_at, j.error,
    (SELECT count(*) FROM live w WHERE j.queue_id = ANY(w.queues) AND j.kind_id = ANY(w.kinds)) AS live_workers,
    (SELECT count(*) FROM live w WHERE j.kind_id = ANY(w.kinds)) AS kind_workers,
    (SELECT w.name FROM millstream.worker w WHERE j.kind_id = ANY(w.kinds) ORDER BY w.id DESC LIMIT 1) AS last_worker,
    l.leased_at, lw.name AS lease_worker, (lb.beat_at IS NULL OR lb.beat_at < now() - make_interval(secs => $2)) AS lease_silent,
    d.reason AS dead_reason, p.id AS parcel_id, p.publishing_since, p.not_before, p.jobs_ahead,
    e.class AS last_class, e.counted AS last_counted
  FROM millstream.job j CROSS JOIN millstream.closed c
  JOIN millstream.kind k ON k.id = j.kind_id JOIN millstream.queue q ON q.id = j.queue_id JOIN millstream.tenant t ON t.id = j.tenant_id
  LEFT JOIN millstream.lease l ON l.job_id = j.id
  LEFT JOIN millstream.worker lw ON lw.id = l.worker_id LEFT JOIN millstream.worker_beat lb ON lb.worker_id = l.worker_id
  LEFT JOIN millstream.dead_letter d ON d.job_id = j.id
  LEFT JOIN LATERAL (SELECT class, counted FROM millstream.job_error_view WHERE job_id = j.id ORDER BY epoch DESC LIMIT 1) e ON true
  LEFT JOIN LATERAL (
    -- The newest parcel that lists the job, and what waits before it in the same queue and priority.
    SELECT x.id, x.publishing_since, CASE WHEN NOT millstream.has_rested(x.not_before) THEN x.not_before END AS not_before,
      (SELECT sum(y.jobs - y.taken)::bigint FROM millstream.parcel y WHERE y.queue_id = x.queue_id AND y.priority = x.priority
        AND y.publishing_since IS NULL AND y.id < x.id) AS jobs_ahead
    FROM millstream.parcel x
    WHERE j.state = 0 AND x.queue_id = j.queue_id AND x.priority = j.priority AND x.kind_id = j.kind_id AND x.tenant_id = j.tenant_id
      AND j.id = ANY(x.ids)
    ORDER BY x.id DESC LIMIT 1
  ) p ON true
  WHERE j.id = $1";

type Finding = (&'static str, String, Option<String>);

fn judge(id: JobId, facts: &Facts) -> Explanation {
    let state = State::from_number(facts.state).unwrap_or(State::Available);
    let (reason, text, advice) = match state {
        State::Available => available(facts),
        State::Running => running(facts),
        State::Scheduled | State::Retryable | State::RateLimited => put_off(state, facts),
        State::Waiting => ("waiting", "It waits for other jobs to end.".into(), None),
        State::Completed => (
            "final",
            format!("It completed at {}.", time(facts.finished_at)),
            None,
        ),
        State::Cancelled => (
            "final",
            format!("It was cancelled at {}.", time(facts.finished_at)),
            None,
        ),
        State::Dead => dead(facts),
    };
    Explanation {
        id,
        state: state.name().into(),
        reason,
        text,
        advice,
    }
}

fn paused(facts: &Facts) -> Option<Finding> {
    let (what, name) = match (facts.queue_paused, facts.kind_paused, facts.tenant_paused) {
        (true, ..) => ("queue", &facts.queue),
        (_, true, _) => ("kind", &facts.kind),
        (.., true) => ("tenant", &facts.tenant),
        _ => return None,
    };
    Some((
        "paused",
        format!("The {what} \"{name}\" is paused."),
        Some(format!("millstream {what}s resume {name}")),
    ))
}

fn available(facts: &Facts) -> Finding {
    if let Some(because) = paused(facts) {
        return because;
    }
    if facts.live_workers == 0 {
        let text = format!(
            "No live worker reads queue \"{}\" and runs kind \"{}\".",
            facts.queue, facts.kind
        );
        return ("no_worker", text, Some(whom_to_start(facts)));
    }
    listed(facts)
}

/// Which program helps: the plain worker has only some of the kinds, and a worker may live that reads other queues.
fn whom_to_start(facts: &Facts) -> String {
    let (kind, queue) = (&facts.kind, &facts.queue);
    if facts.kind_workers > 0 {
        return format!(
            "live workers run kind \"{kind}\", but in other queues: start one that reads \"{queue}\" too (--queues, or none named)"
        );
    }
    match (in_the_box(kind), kind.as_str(), &facts.last_worker) {
        (true, ..) => {
            "start one: millstream worker; \"millstream workers list\" shows what lives".into()
        }
        (_, "crash", _) => "start one: MILLSTREAM_DIAGNOSTICS=1 millstream worker".into(),
        (.., Some(worker)) => {
            format!(
                "start your program that has a handler for \"{kind}\", as worker \"{worker}\" had: millstream worker itself has none"
            )
        }
        _ => format!(
            "start your program that has a handler for \"{kind}\": millstream worker itself has none, and no worker has had one yet"
        ),
    }
}

fn listed(facts: &Facts) -> Finding {
    let Some(parcel) = facts.parcel_id else {
        let text =
            "A worker has taken it, or it is being handed out again; no parcel lists it now."
                .into();
        return ("unlisted", text, Some("ask again in a few seconds".into()));
    };
    if let Some(not_before) = facts
        .not_before
        .filter(|_| facts.publishing_since.is_none())
    {
        let text = format!(
            "A worker gave it back unstarted; parcel {parcel} offers it again from {}.",
            time(Some(not_before))
        );
        return ("put_back", text, None);
    }
    let sooner = Some("more workers or slots start it sooner".into());
    if let Some(since) = facts.publishing_since {
        let (queue, since) = (&facts.queue, time(Some(since)));
        return (
            "in_stream",
            format!(
                "Its hint went to the stream of queue \"{queue}\" at {since} (parcel {parcel}); it runs when a slot is free."
            ),
            sooner,
        );
    }
    let ahead = facts.jobs_ahead.unwrap_or(0);
    (
        "backlog",
        format!(
            "It waits in parcel {parcel} with {ahead} jobs of its queue and priority before it."
        ),
        sooner,
    )
}

fn running(facts: &Facts) -> Finding {
    let worker = facts.lease_worker.as_deref().unwrap_or("a worker");
    let since = time(facts.leased_at);
    if facts.lease_silent == Some(true) {
        let text = format!("Worker \"{worker}\" has it since {since} and has stopped beating.");
        return (
            "worker_silent",
            text,
            Some("it is handed out again once the lease has run out, if any worker lives".into()),
        );
    }
    (
        "running",
        format!(
            "Worker \"{worker}\" runs it since {since}, try {} of {}.",
            facts.attempt + 1,
            facts.max_attempts
        ),
        None,
    )
}

fn put_off(state: State, facts: &Facts) -> Finding {
    let why = match state {
        State::Retryable
            if facts.last_class.as_deref() == Some("unavailable")
                && !facts.last_counted.unwrap_or(true) =>
        {
            format!(
                "Something it needs could not be reached, which costs it nothing: it is at try {} of {}",
                facts.attempt + 1,
                facts.max_attempts
            )
        }
        State::Retryable => format!("Try {} of {} failed", facts.attempt, facts.max_attempts),
        State::RateLimited => "A rate limit refused it".to_owned(),
        _ => "It is scheduled".to_owned(),
    };
    let advice = paused(facts)
        .and_then(|(.., advice)| advice)
        .unwrap_or_else(|| "millstream jobs retry ID runs it at once".into());
    (
        "put_off",
        format!("{why}; it is due at {}.", time(facts.ready_at)),
        Some(advice),
    )
}

fn dead(facts: &Facts) -> Finding {
    let reason = match facts.dead_reason.as_deref() {
        Some("attempts") => format!("All {} tries failed", facts.max_attempts),
        Some("permanent") => "It failed in a way that no retry mends".to_owned(),
        Some("crash") => "It ends the process that runs it".to_owned(),
        Some("undecodable") => "Its payload could not be read by its handler".to_owned(),
        Some("deadline") => "Its deadline passed".to_owned(),
        _ => "It failed for good".to_owned(),
    };
    let error = facts
        .error
        .as_deref()
        .map(|e| format!(": {}", millstream_common::limits::bounded(e, 300)))
        .unwrap_or_default();
    (
        "dead",
        format!("{reason}{error}"),
        Some("mend the cause, then: millstream dead redrive ID".into()),
    )
}

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(
        || "an unknown time".into(),
        |at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(state: State) -> Facts {
        Facts {
            state: state.number(),
            kind: "echo".into(),
            queue: "default".into(),
            tenant: "default".into(),
            live_workers: 1,
            ..Facts::default()
        }
    }

    fn reason(facts: &Facts) -> &'static str {
        judge(JobId::nil(), facts).reason
    }

    #[test]
    fn what_stands_in_the_way_first_is_named() {
        // F29
        let paused = Facts {
            queue_paused: true,
            live_workers: 0,
            ..facts(State::Available)
        };
        assert_eq!(reason(&paused), "paused");
        assert_eq!(
            reason(&Facts {
                live_workers: 0,
                ..facts(State::Available)
            }),
            "no_worker"
        );
        assert_eq!(
            reason(&Facts {
                parcel_id: Some(1),
                ..facts(State::Available)
            }),
            "backlog"
        );
        assert_eq!(
            reason(&Facts {
                parcel_id: Some(1),
                publishing_since: Some(DateTime::UNIX_EPOCH),
                ..facts(State::Available)
            }),
            "in_stream"
        );
        assert_eq!(reason(&facts(State::Available)), "unlisted");
    }

    // X33
    #[test]
    fn x33_advice_is_to_start_what_has_the_handler() {
        let advice = |facts: Facts| judge(JobId::nil(), &facts).advice.unwrap_or_default();
        let nobody = |kind: &str| Facts {
            kind: kind.into(),
            live_workers: 0,
            ..facts(State::Available)
        };
        assert!(advice(nobody("echo")).starts_with("start one: millstream worker;"));
        assert!(advice(nobody("document.embed")).starts_with("start one: millstream worker;"));
        assert!(advice(nobody("crash")).contains("MILLSTREAM_DIAGNOSTICS=1"));
        assert!(advice(nobody("mail")).starts_with(
            "start your program that has a handler for \"mail\": millstream worker itself has none"
        ));
        let before = Facts {
            last_worker: Some("mailer".into()),
            ..nobody("mail")
        };
        assert!(advice(before).contains("as worker \"mailer\" had"));
        let elsewhere = Facts {
            kind_workers: 2,
            ..nobody("mail")
        };
        assert!(advice(elsewhere).contains("but in other queues"));
    }

    #[test]
    fn every_state_has_an_explanation() {
        for state in State::ALL {
            let told = judge(JobId::nil(), &facts(state));
            assert_eq!(told.state, state.name());
            assert!(!told.text.is_empty());
        }
        assert_eq!(
            reason(&Facts {
                lease_silent: Some(true),
                ..facts(State::Running)
            }),
            "worker_silent"
        );
    }
}
