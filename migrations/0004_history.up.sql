-- What happened to jobs: errors, log lines, dead letters, what people did; and the views in which
-- people and other languages see jobs.

-- One row per failed or crashed attempt; a job that succeeds at once has none.
CREATE TABLE millstream.job_error (
  job_id    uuid NOT NULL,
  epoch     int NOT NULL,
  attempt   smallint NOT NULL,
  class     text NOT NULL,
  worker_id bigint,
  at        timestamptz NOT NULL DEFAULT now(),
  message   text NOT NULL,
  PRIMARY KEY (job_id, epoch),
  CONSTRAINT job_error_class_check CHECK (class IN ('retry', 'permanent', 'rate_limited',
    'timeout', 'panic', 'crash', 'cancelled', 'undecodable', 'unavailable'))
);

CREATE TABLE millstream.job_log (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id  uuid NOT NULL,
  epoch   int NOT NULL,
  attempt smallint,                   -- the try that wrote the line
  at      timestamptz NOT NULL DEFAULT now(),
  line    text NOT NULL
);
CREATE INDEX job_log_job ON millstream.job_log (job_id, id);

CREATE TABLE millstream.dead_letter (
  job_id    uuid PRIMARY KEY,
  queue_id  int NOT NULL,
  kind_id   int NOT NULL,
  tenant_id int NOT NULL,
  died_at   timestamptz NOT NULL DEFAULT now(),
  reason    text NOT NULL
    CHECK (reason IN ('attempts', 'permanent', 'crash', 'undecodable', 'deadline')),
  error     text NOT NULL
);

-- Every act of a person, written in the statement that does it.
CREATE TABLE millstream.audit (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     timestamptz NOT NULL DEFAULT now(),
  actor  text NOT NULL,
  action text NOT NULL,
  detail jsonb NOT NULL
);

-- JSON, or a JSON string that says the text is none: one undecodable payload must not break a
-- listing.
CREATE FUNCTION millstream.as_json(t text) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN t::json;
EXCEPTION WHEN others THEN
  RETURN to_json('undecodable: ' || left(t, 200));
END $$;

-- Jobs as people and other languages see them: names instead of numbers, JSON instead of text. The
-- attempt is the one that runs or ran last; 0 says that none has begun. A completed job shows no
-- error of an earlier attempt, which stays in its history.
CREATE VIEW millstream.job_view AS
SELECT j.id, k.name::text AS kind, q.name::text AS queue,
       (ARRAY['high', 'medium', 'low'])[j.priority + 1] AS priority,
       (ARRAY['available', 'running', 'completed', 'scheduled', 'retryable', 'rate_limited',
              'waiting', 'cancelled', 'dead'])[j.state + 1] AS state,
       millstream.as_json(j.payload) AS payload, millstream.as_json(j.metadata) AS metadata,
       t.name::text AS tenant, j.batch_id,
       j.attempt + (j.state = 1)::int AS attempt, j.max_attempts::int, j.epoch,
       j.crash_count::int, j.schema_version::int,
       j.ready_at AS run_at, j.deadline_at, j.enqueued_at, j.started_at, j.finished_at,
       w.name AS worker,
       CASE WHEN j.state = 2 THEN 1 ELSE l.progress END AS progress, l.progress_note,
       j.tokens_estimated, j.tokens_actual, j.cost_micros, j.trace,
       millstream.as_json(j.result) AS result, CASE WHEN j.state <> 2 THEN j.error END AS error
FROM millstream.job j
JOIN millstream.kind k ON k.id = j.kind_id
JOIN millstream.queue q ON q.id = j.queue_id
JOIN millstream.tenant t ON t.id = j.tenant_id
LEFT JOIN millstream.lease l ON l.job_id = j.id
LEFT JOIN millstream.worker w ON w.id = COALESCE(l.worker_id, j.worker_id);

-- Failed attempts as people see them, numbered from 1. A rate limit, an outage or a crash happens
-- during an attempt and does not use it up. A server that is away counts only after a day: then the
-- number of attempts has risen.
CREATE VIEW millstream.job_error_view AS
SELECT e.job_id, e.epoch, e.attempt + (NOT c.counted)::int AS attempt, c.counted,
       e.class, e.at, w.name AS worker, e.message
FROM (
  SELECT job_id, epoch, attempt::int AS attempt, class, at, worker_id, message,
         COALESCE(lag(attempt) OVER (PARTITION BY job_id ORDER BY epoch), 0) AS attempts_before
  FROM millstream.job_error
) e
CROSS JOIN LATERAL (
  SELECT e.class NOT IN ('rate_limited', 'crash', 'cancelled')
     AND (e.class <> 'unavailable' OR e.attempt > e.attempts_before) AS counted
) c
LEFT JOIN millstream.worker w ON w.id = e.worker_id;
