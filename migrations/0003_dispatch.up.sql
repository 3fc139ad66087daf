-- What dispatch and recovery need beside the job row: parcels, workers, leases, the leader.
--
-- Rows of these small tables come and go all day. Autovacuum counts dead rows here, not their
-- share: dispatch looks for the oldest waiting parcel through an index, past every dead entry that
-- is still in it.

-- A parcel lists up to 500 available jobs of one (queue, priority, tenant, kind). The table is both
-- the outbox and the backlog. `publishing_since` null: the parcel waits for room in the stream.
-- Set: a process has committed to XADD. The stream may hold the parcel, and the reconcile duty
-- watches it.
CREATE TABLE millstream.parcel (
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  publishing_since timestamptz,
  -- Set when a worker puts the jobs back: it gives another worker time to take them.
  not_before       timestamptz,
  enqueued_at      timestamptz NOT NULL DEFAULT now(),
  queue_id         int NOT NULL,
  tenant_id        int NOT NULL,
  kind_id          int NOT NULL,
  priority         smallint NOT NULL,
  chunk            smallint NOT NULL,       -- jobs per stream entry
  jobs             smallint NOT NULL,
  -- How many jobs stream readers have settled or leased: a lower bound, never too high.
  done             smallint NOT NULL DEFAULT 0,
  -- A cursor: the first `taken` ids were moved on by dispatch or claimed without Redis.
  taken            smallint NOT NULL DEFAULT 0,
  epochs           int[],                   -- null: all at epoch 0
  ids              uuid[] NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
-- Ids do not compress: trying took a fifth of the time of an INSERT.
ALTER TABLE millstream.parcel ALTER ids SET STORAGE EXTERNAL;
-- Dispatch looks for the parcels of one tenant, whatever the last ANALYZE counted. After a backlog
-- of one tenant Postgres took all parcels for that tenant's, and read them all for each of many
-- others.
ALTER TABLE millstream.parcel ALTER tenant_id SET (n_distinct = -1);
CREATE INDEX parcel_waiting ON millstream.parcel (queue_id, priority, tenant_id, id)
  WHERE publishing_since IS NULL;
CREATE INDEX parcel_publishing ON millstream.parcel (publishing_since)
  WHERE publishing_since IS NOT NULL;

CREATE TABLE millstream.worker (
  -- New at every start: a worker that starts again under its name is another worker.
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         text NOT NULL,
  host         text NOT NULL,
  pid          int NOT NULL,
  version      text NOT NULL,
  queues       int[] NOT NULL,
  kinds        int[] NOT NULL,
  -- What the handlers of this worker say, in the order of `kinds`. Null: they do not say it.
  max_attempts smallint[],
  slots        int NOT NULL,
  -- How long its beat may stand still: others judge a worker by its own lease.
  lease_ms     bigint NOT NULL,
  state        text NOT NULL CHECK (state IN ('active', 'paused', 'draining', 'stopped', 'lost')),
  listen       text,
  started_at   timestamptz NOT NULL DEFAULT now(),
  ended_at     timestamptz
);

-- The narrow row that changes at every beat; apart, so that a beat is a HOT update of a few bytes.
CREATE TABLE millstream.worker_beat (
  worker_id    bigint PRIMARY KEY REFERENCES millstream.worker ON DELETE CASCADE,
  beat         bigint NOT NULL DEFAULT 0,
  beat_at      timestamptz NOT NULL DEFAULT now(),   -- for people; nothing is decided by it
  busy         int NOT NULL DEFAULT 0,
  finished     bigint NOT NULL DEFAULT 0,
  memory_bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);

-- A job that runs longer than 200 ms, or was claimed without Redis. From then on Postgres alone
-- answers for it.
CREATE TABLE millstream.lease (
  job_id        uuid PRIMARY KEY,
  worker_id     bigint NOT NULL,
  epoch         int NOT NULL,
  cancel        boolean NOT NULL DEFAULT false,
  progress      real,
  progress_note text,
  leased_at     timestamptz NOT NULL DEFAULT now(),
  -- A job that was in hand at a crash says here that it starts. Later crashes count only jobs that
  -- had started.
  started       boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.1,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lease_worker ON millstream.lease (worker_id);

-- Which process keeps house. Only an optimisation: two processes may run every duty at once.
CREATE TABLE millstream.leader (
  role      text PRIMARY KEY,
  worker_id bigint NOT NULL,
  term      bigint NOT NULL,
  beat      bigint NOT NULL
) WITH (fillfactor = 50);

-- Counts by state, written by the stats duty. No page and no scrape counts the job table.
CREATE TABLE millstream.queue_stat (
  queue_id           int NOT NULL,
  state              text NOT NULL,
  jobs               bigint NOT NULL,
  oldest_age_seconds double precision,
  at                 timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (queue_id, state)
) WITH (fillfactor = 50);

-- The kinds of that queue which some active worker runs.
CREATE FUNCTION millstream.served_kinds(p_queue int) RETURNS int[] LANGUAGE sql STABLE AS $$
  SELECT ARRAY(
    SELECT DISTINCT k.id FROM millstream.worker w, unnest(w.kinds) AS k(id)
    WHERE w.state = 'active' AND p_queue = ANY (w.queues))
$$;

-- Whether a parcel's rest is over. A rest that ends far ahead was written before the clock of
-- Postgres was set back.
CREATE FUNCTION millstream.has_rested(p_not_before timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT p_not_before IS NULL OR p_not_before NOT BETWEEN now() AND now() + interval '1 minute'
$$;

-- The tries that live workers have for each kind, where they are not those of the kind.
CREATE VIEW millstream.tries_differ AS
  SELECT k.id AS kind_id, k.name::text AS kind, k.max_attempts, k.max_attempts_fixed,
         w.id AS worker_id, w.name AS worker, u.max_attempts AS worker_says
  FROM millstream.worker w
  CROSS JOIN LATERAL unnest(w.kinds, w.max_attempts) AS u(kind_id, max_attempts)
  JOIN millstream.kind k ON k.id = u.kind_id
  WHERE w.state IN ('active', 'paused') AND u.max_attempts <> k.max_attempts;
