-- What dispatch and recovery need beside the job row.

-- A parcel lists up to 500 available jobs of one (queue, priority, tenant, kind). The table is both the outbox and the
-- backlog. `publishing_since` null: waiting for room in the stream. Set: somebody has committed to XADD, so the stream
-- may hold it, and the reconcile duty watches it.
CREATE TABLE millstream.parcel (
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  publishing_since timestamptz,
  not_before       timestamptz,             -- set when a worker put the jobs back: gives another worker time to take them
  enqueued_at      timestamptz NOT NULL DEFAULT now(),
  queue_id         int NOT NULL,
  tenant_id        int NOT NULL,
  kind_id          int NOT NULL,
  priority         smallint NOT NULL,
  chunk            smallint NOT NULL,       -- jobs per stream entry
  jobs             smallint NOT NULL,
  done             smallint NOT NULL DEFAULT 0,  -- settled or leased by stream readers: a lower bound, never too high
  taken            smallint NOT NULL DEFAULT 0,  -- cursor: the first `taken` ids were moved on by dispatch or claimed without Redis
  epochs           int[],                   -- null: all at epoch 0
  ids              uuid[] NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX parcel_waiting ON millstream.parcel (queue_id, priority, tenant_id, id) WHERE publishing_since IS NULL;
CREATE INDEX parcel_publishing ON millstream.parcel (publishing_since) WHERE publishing_since IS NOT NULL;

CREATE TABLE millstream.worker (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- new at every start: a restarted name is another worker
  name       text NOT NULL,
  host       text NOT NULL,
  pid        int NOT NULL,
  version    text NOT NULL,
  queues     int[] NOT NULL,
  kinds      int[] NOT NULL,
  slots      int NOT NULL,
  lease_ms   bigint NOT NULL,          -- how long its beat may stand still: others judge it by its own lease
  state      text NOT NULL CHECK (state IN ('active', 'paused', 'draining', 'stopped', 'lost')),
  listen     text,
  started_at timestamptz NOT NULL DEFAULT now(),
  ended_at   timestamptz
);

-- The narrow row that changes at every beat; apart, so that a beat is a HOT update of a few bytes.
CREATE TABLE millstream.worker_beat (
  worker_id    bigint PRIMARY KEY REFERENCES millstream.worker ON DELETE CASCADE,
  beat         bigint NOT NULL DEFAULT 0,
  beat_at      timestamptz NOT NULL DEFAULT now(),   -- for people; nothing is decided by it
  busy         int NOT NULL DEFAULT 0,
  finished     bigint NOT NULL DEFAULT 0,
  memory_bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

-- A job that runs longer than 200 ms, or was claimed without Redis. From then on Postgres alone answers for it.
CREATE TABLE millstream.lease (
  job_id        uuid PRIMARY KEY,
  worker_id     bigint NOT NULL,
  epoch         int NOT NULL,
  cancel        boolean NOT NULL DEFAULT false,
  progress      real,
  progress_note text,
  leased_at     timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.1);
CREATE INDEX lease_worker ON millstream.lease (worker_id);

-- One row per failed or crashed attempt; a job that succeeds at once has none.
CREATE TABLE millstream.job_error (
  job_id    uuid NOT NULL,
  epoch     int NOT NULL,
  attempt   smallint NOT NULL,
  class     text NOT NULL CHECK (class IN ('retry', 'permanent', 'rate_limited', 'timeout', 'panic', 'crash', 'cancelled', 'undecodable')),
  worker_id bigint,
  at        timestamptz NOT NULL DEFAULT now(),
  message   text NOT NULL,
  PRIMARY KEY (job_id, epoch)
);

CREATE TABLE millstream.job_log (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id uuid NOT NULL,
  epoch  int NOT NULL,
  at     timestamptz NOT NULL DEFAULT now(),
  line   text NOT NULL
);
CREATE INDEX job_log_job ON millstream.job_log (job_id, id);

CREATE TABLE millstream.dead_letter (
  job_id    uuid PRIMARY KEY,
  queue_id  int NOT NULL,
  kind_id   int NOT NULL,
  tenant_id int NOT NULL,
  died_at   timestamptz NOT NULL DEFAULT now(),
  reason    text NOT NULL CHECK (reason IN ('attempts', 'permanent', 'crash', 'undecodable', 'deadline')),
  error     text NOT NULL
);
CREATE INDEX dead_letter_died ON millstream.dead_letter (died_at);

-- An idempotency key enqueues one job, whoever asks and however often.
CREATE TABLE millstream.job_key (
  tenant_id    int NOT NULL,
  key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  job_id       uuid NOT NULL,
  payload_hash bytea NOT NULL,
  PRIMARY KEY (tenant_id, key)
);
CREATE INDEX job_key_job ON millstream.job_key (job_id);

-- Which process keeps house. Only an optimisation: every duty is also safe when two processes run it.
CREATE TABLE millstream.leader (
  role      text PRIMARY KEY,
  worker_id bigint NOT NULL,
  term      bigint NOT NULL,
  beat      bigint NOT NULL
) WITH (fillfactor = 50);

-- Counts by state, written by the stats duty; nothing counts the job table for a page or a scrape.
CREATE TABLE millstream.queue_stat (
  queue_id           int NOT NULL,
  state              text NOT NULL,
  jobs               bigint NOT NULL,
  oldest_age_seconds double precision,
  at                 timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (queue_id, state)
) WITH (fillfactor = 50);

-- Cron schedules and run-time settings (read by later releases; the tables are part of the first schema so that
-- old and new binaries can share it).
CREATE TABLE millstream.schedule (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name          millstream.name NOT NULL UNIQUE,
  cron          text NOT NULL,
  time_zone     text NOT NULL DEFAULT 'UTC',
  tenant_id     int NOT NULL REFERENCES millstream.tenant,
  queue_id      int NOT NULL REFERENCES millstream.queue,
  kind_id       int NOT NULL REFERENCES millstream.kind,
  priority      smallint NOT NULL DEFAULT 1,
  payload       text NOT NULL DEFAULT '{}',
  missed_policy text NOT NULL DEFAULT 'once' CHECK (missed_policy IN ('skip', 'once', 'all')),
  enabled       boolean NOT NULL DEFAULT true,
  last_tick_at  timestamptz,
  next_tick_at  timestamptz
);
CREATE TABLE millstream.config (
  key        text PRIMARY KEY,
  value      jsonb NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL
);
