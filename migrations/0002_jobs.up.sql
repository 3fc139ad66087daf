-- The job row: the truth about one job. Its days, its ids, and the changes of state that it allows.

-- Cost rules (measured; docs/performance.md, "What a job costs"):
-- fillfactor 50, so that the one UPDATE of a short job is HOT;
-- no index, and no index predicate, on a column that the hot path changes (state, epoch, attempt,
-- worker_id, started_at, finished_at, result). `ready_at` finds what is due later, and only those
-- jobs set it.
CREATE TABLE millstream.job (
  -- UUIDv7, made by the client: a commit whose answer was lost can be repeated.
  id               uuid NOT NULL,
  enqueued_at      timestamptz NOT NULL DEFAULT now(),
  ready_at         timestamptz,              -- set only while scheduled, retryable or rate_limited
  deadline_at      timestamptz,
  started_at       timestamptz,
  finished_at      timestamptz,
  worker_id        bigint,
  cost_micros      bigint,                   -- millionths of the account's currency
  queue_id         int NOT NULL,
  kind_id          int NOT NULL,
  tenant_id        int NOT NULL,
  epoch            int NOT NULL DEFAULT 0,   -- the hand-out that may write this row; only grows
  tokens_estimated int,
  tokens_actual    int,
  state            smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 8),
  priority         smallint NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 2),
  attempt          smallint NOT NULL DEFAULT 0,
  max_attempts     smallint NOT NULL DEFAULT 3,
  crash_count      smallint NOT NULL DEFAULT 0,
  -- The version of the payload. A worker that is too old for it leaves the job alone.
  schema_version   smallint NOT NULL DEFAULT 1,
  batch_id         uuid,                     -- the batch that counts this job, if any
  payload          text NOT NULL,
  metadata         text,
  trace            text,                     -- W3C traceparent of the enqueuing span
  result           text,
  error            text,                     -- of the last failed attempt
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- A client with a wrong clock makes ids outside every dated partition. They are kept here rather
-- than refused.
CREATE TABLE millstream.job_default PARTITION OF millstream.job DEFAULT
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The predicate's column is null for every job that runs at once, before and after its UPDATE, so
-- the UPDATE stays HOT.
CREATE INDEX job_due ON millstream.job (ready_at) WHERE ready_at IS NOT NULL;

-- The smallest UUIDv7 of a moment. Partition bounds and "jobs since" filters are made of it. UUIDs
-- have 48 bits of milliseconds since 1970. A moment outside that range gives the smallest or the
-- largest id: "jobs since 1900" are all jobs.
CREATE FUNCTION millstream.uuid_at(moment timestamptz)
RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex(LEAST(GREATEST(
            extract(epoch FROM moment) * 1000, 0), 281474976710655)::bigint), 12, '0')
          || '00000000000000000000')::uuid
$$;

-- A new UUIDv7 for the SQL door; the other doors make theirs in the client.
CREATE FUNCTION millstream.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT (substr(h, 1, 12) || '7' || substr(h, 14, 3) || substr(r, 17, 16))::uuid
  FROM (SELECT lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
               || replace(gen_random_uuid()::text, '-', '') AS h,
               replace(gen_random_uuid()::text, '-', '') AS r) AS parts
$$;

-- Creates the daily partitions that are missing, from yesterday to `days_ahead` days from now.
-- Returns how many it made.
--
-- Partitions are made, sealed and dropped with the rights of their owner: a role that keeps house
-- owns nothing and needs the right to call.
CREATE FUNCTION millstream.ensure_partitions(days_ahead int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  day date;
  made int := 0;
  part text;
BEGIN
  -- One caller at a time; the lock ends with the transaction.
  PERFORM pg_advisory_xact_lock(hashtext('millstream.ensure_partitions'));
  FOR day IN SELECT generate_series(
      (now() AT TIME ZONE 'UTC')::date - 1,
      (now() AT TIME ZONE 'UTC')::date + days_ahead, '1 day')::date LOOP
    part := 'job_' || to_char(day, 'YYYYMMDD');
    CONTINUE WHEN to_regclass('millstream.' || part) IS NOT NULL;
    BEGIN
      EXECUTE format(
        'CREATE TABLE millstream.%I PARTITION OF millstream.job FOR VALUES FROM (%L) TO (%L) '
        'WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, '
        'autovacuum_vacuum_insert_scale_factor = 0.2)',
        part,
        millstream.uuid_at(day::timestamp AT TIME ZONE 'UTC'),
        millstream.uuid_at((day + 1)::timestamp AT TIME ZONE 'UTC'));
      made := made + 1;
    EXCEPTION WHEN check_violation THEN
      -- The default partition has a job of that day already. That day stays there; the others are
      -- made.
      RAISE WARNING 'partition % is not made: the default partition has jobs of that day', part;
    END;
  END LOOP;
  RETURN made;
END $$;
REVOKE EXECUTE ON FUNCTION millstream.ensure_partitions(int) FROM PUBLIC;
SELECT millstream.ensure_partitions(7);

-- The state table of the code (common/src/state.rs), once more as the last line of defence: row
-- `from`, bit `to`. The WHEN clause is a plain expression, so a legal update never calls the
-- function.
CREATE FUNCTION millstream.refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'job %: illegal change from state % epoch % to state % epoch %',
    OLD.id, OLD.state, OLD.epoch, NEW.state, NEW.epoch
    USING ERRCODE = 'check_violation',
      HINT = 'Only the transitions of ARCHITECTURE.md are possible, and epochs only grow.';
END $$;
CREATE TRIGGER job_transition AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (NEW.epoch < OLD.epoch OR NEW.id <> OLD.id OR (OLD.state <> NEW.state AND
    -- available, running, completed, scheduled, retryable, rate_limited, waiting, cancelled, dead
    (('{446,445,0,129,129,129,137,0,1}'::int[])[OLD.state + 1] >> NEW.state) & 1 = 0))
  EXECUTE FUNCTION millstream.refuse_update();
