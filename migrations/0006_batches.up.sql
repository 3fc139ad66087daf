-- Batches: groups of jobs, counted by how the jobs ended. A batch ends once, with the last of its
-- jobs, and may start a job that follows.
--
-- The statement that ends jobs counts them at its own end: jobs first, then batches in the order of
-- their ids, which is the lock order of everybody. No trigger on millstream.job does it: jobs
-- without a batch pay nothing.

CREATE TABLE millstream.batch (
  id                uuid PRIMARY KEY,
  tenant_id         int NOT NULL REFERENCES millstream.tenant,
  -- The part of Millstream whose batch it is, such as 'documents'. Null: a caller's.
  system            text,
  name              text CHECK (length(name) BETWEEN 1 AND 255),
  -- open: jobs can be added. sealed: only jobs of the batch can add more. The others are ends.
  state             text NOT NULL DEFAULT 'open'
    CHECK (state IN ('open', 'sealed', 'completed', 'failed', 'cancelled')),
  -- A person has cancelled it: no job can be added, and its end is 'cancelled'.
  is_cancelled      boolean NOT NULL DEFAULT false,
  total             int NOT NULL DEFAULT 0,
  succeeded         int NOT NULL DEFAULT 0 CHECK (succeeded >= 0),
  dead              int NOT NULL DEFAULT 0 CHECK (dead >= 0),
  cancelled         int NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
  -- The batch fails when a larger share of one kind of its work is dead or cancelled.
  failure_share_max real NOT NULL DEFAULT 0 CHECK (failure_share_max BETWEEN 0 AND 1),
  -- The job that follows, if any, and when: at every end, or only when the batch has completed.
  next_kind_id      int REFERENCES millstream.kind,
  next_queue_id     int REFERENCES millstream.queue,
  next_payload      text,
  next_on           text NOT NULL DEFAULT 'ended' CHECK (next_on IN ('ended', 'completed')),
  next_job_id       uuid,                    -- set when it was started, which happens once
  created_at        timestamptz NOT NULL DEFAULT now(),
  sealed_at         timestamptz,
  ended_at          timestamptz,
  CHECK (succeeded + dead + cancelled <= total)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);

-- The jobs of a batch. The hot path never changes this column, so its updates stay HOT.
CREATE INDEX job_batch ON millstream.job (batch_id, id) WHERE batch_id IS NOT NULL;

-- How many jobs of each kind of work a batch has, so that many successes of one kind do not hide
-- that another kind failed altogether.
CREATE TABLE millstream.batch_work (
  batch_id          uuid NOT NULL REFERENCES millstream.batch ON DELETE CASCADE,
  work              text NOT NULL,           -- as millstream.work_of names it
  total             int NOT NULL,
  failure_share_max real,                    -- null: that of the batch
  PRIMARY KEY (batch_id, work)
);

-- What is not in the row of its batch yet, one row a call. Callers that add jobs to one batch do
-- not wait for each other, nor the batch's jobs for an open transaction of a caller. Jobs that end
-- while somebody holds the row of their batch are counted here too.
CREATE TABLE millstream.batch_change (
  -- No foreign key: its check would wait for whoever seals the batch in an open transaction.
  batch_id  uuid NOT NULL,
  work      text,                            -- of jobs that were added
  added     int NOT NULL DEFAULT 0,
  succeeded int NOT NULL DEFAULT 0,
  dead      int NOT NULL DEFAULT 0,
  cancelled int NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX batch_change_batch ON millstream.batch_change (batch_id);
CREATE INDEX batch_change_ended ON millstream.batch_change (batch_id) WHERE work IS NULL;

-- The jobs of a batch that are dead or cancelled. One that lives again leaves this table.
CREATE TABLE millstream.batch_failure (
  batch_id uuid NOT NULL REFERENCES millstream.batch ON DELETE CASCADE,
  job_id   uuid NOT NULL,
  work     text NOT NULL,
  error    text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (batch_id, job_id)
);

-- What a job counts as in its batch: `work` of its metadata, else its kind.
CREATE FUNCTION millstream.work_of(p_kind int, p_metadata text)
RETURNS text LANGUAGE sql STABLE AS $$
  SELECT COALESCE(left(millstream.as_json(p_metadata) ->> 'work', 255),
                  (SELECT name::text FROM millstream.kind WHERE id = p_kind))
$$;

-- Takes what was noted into the rows of batches. The caller has locked them.
CREATE FUNCTION millstream.fold_changes(p_batches uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WITH changes AS (
    DELETE FROM millstream.batch_change WHERE batch_id = ANY (p_batches)
    RETURNING batch_id, work, added, succeeded, dead, cancelled
  ), works AS (
    INSERT INTO millstream.batch_work AS w (batch_id, work, total)
    SELECT batch_id, work, sum(added) FROM changes WHERE added > 0 GROUP BY batch_id, work
    ON CONFLICT (batch_id, work) DO UPDATE SET total = w.total + EXCLUDED.total
  )
  UPDATE millstream.batch b
  SET total = b.total + c.added, succeeded = b.succeeded + c.succeeded, dead = b.dead + c.dead,
      cancelled = b.cancelled + c.cancelled
  FROM (
    SELECT batch_id, sum(added) AS added, sum(succeeded) AS succeeded, sum(dead) AS dead,
           sum(cancelled) AS cancelled
    FROM changes GROUP BY batch_id
  ) c WHERE b.id = c.batch_id;
END $$;

-- Whether too many jobs of one kind of its work are dead or cancelled.
CREATE FUNCTION millstream.has_failed(p_batch millstream.batch)
RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT (p_batch).dead + (p_batch).cancelled > 0 AND EXISTS (
    SELECT 1 FROM millstream.batch_work w
    JOIN (SELECT f.work, count(*) AS jobs FROM millstream.batch_failure f
          WHERE f.batch_id = (p_batch).id GROUP BY f.work) f ON f.work = w.work
    WHERE w.batch_id = (p_batch).id
      -- Shares are compared as they are stored: 7 of 10 are 0.7, and not a little more.
      AND (f.jobs::float8 / w.total)::real
          > COALESCE(w.failure_share_max, (p_batch).failure_share_max))
$$;

-- Starts the job that follows a batch. Its payload has a field `batch` that says how the batch
-- ended.
CREATE FUNCTION millstream.start_next(p_batch millstream.batch)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_job uuid := millstream.uuid_v7();
BEGIN
  UPDATE millstream.batch SET next_job_id = v_job
  WHERE id = (p_batch).id AND next_job_id IS NULL;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  PERFORM millstream.persist(
    ARRAY[v_job], ARRAY[(p_batch).next_queue_id], ARRAY[(p_batch).next_kind_id],
    ARRAY[(p_batch).tenant_id], ARRAY[1::smallint],
    ARRAY[((p_batch).next_payload::jsonb || jsonb_build_object('batch', jsonb_build_object(
      'id', (p_batch).id, 'name', (p_batch).name, 'state', (p_batch).state,
      'total', (p_batch).total, 'succeeded', (p_batch).succeeded, 'dead', (p_batch).dead,
      'cancelled', (p_batch).cancelled)))::text],
    NULL, NULL, NULL, NULL, NULL, NULL, false, NULL);
END $$;

-- Ends those whose jobs have all ended. The state is the guard: this happens once.
CREATE FUNCTION millstream.end_batches(p_batches uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_ended millstream.batch;
BEGIN
  FOR v_ended IN
    UPDATE millstream.batch b
    SET ended_at = now(), state = CASE WHEN b.is_cancelled THEN 'cancelled'
                                       WHEN millstream.has_failed(b) THEN 'failed'
                                       ELSE 'completed' END
    WHERE b.id = ANY (p_batches) AND b.state = 'sealed'
      AND b.succeeded + b.dead + b.cancelled = b.total
    RETURNING b.*
  LOOP
    IF v_ended.next_kind_id IS NOT NULL
       AND (v_ended.next_on = 'ended' OR v_ended.state = 'completed') THEN
      PERFORM millstream.start_next(v_ended);
    END IF;
  END LOOP;
END $$;

-- Locks batches, all in one order. False: somebody has held one of them for a while, as a person
-- may whose transaction cancels jobs. Honest callers are through in a few milliseconds.
CREATE FUNCTION millstream.lock_batches(p_batches uuid[])
RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
BEGIN
  PERFORM 1 FROM millstream.batch WHERE id = ANY (p_batches) ORDER BY id FOR NO KEY UPDATE;
  RETURN true;
EXCEPTION WHEN lock_not_available THEN
  RETURN false;
END $$;

-- Counts jobs that have ended: the batches of those jobs, one for each, and the states in which
-- they are; null means that all have completed. Nobody waits long for a batch: if it is held, the
-- count is noted, and whoever counts next, or the leader, takes it up.
CREATE FUNCTION millstream.count_in_batches(p_jobs uuid[], p_states smallint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_batches uuid[] := ARRAY(SELECT DISTINCT u.id FROM unnest(p_jobs) AS u(id) ORDER BY u.id);
BEGIN
  IF NOT millstream.lock_batches(v_batches) THEN
    INSERT INTO millstream.batch_change (batch_id, succeeded, dead, cancelled)
    SELECT u.id, count(*) FILTER (WHERE COALESCE(u.state, 2) = 2),
           count(*) FILTER (WHERE u.state = 8), count(*) FILTER (WHERE u.state = 7)
    FROM unnest(p_jobs, p_states) AS u(id, state)
    JOIN millstream.batch b ON b.id = u.id GROUP BY u.id;
    RETURN;
  END IF;
  PERFORM millstream.fold_changes(v_batches);
  UPDATE millstream.batch b
  SET succeeded = b.succeeded + c.succeeded, dead = b.dead + c.dead,
      cancelled = b.cancelled + c.cancelled
  FROM (
    SELECT u.id, count(*) FILTER (WHERE COALESCE(u.state, 2) = 2) AS succeeded,
           count(*) FILTER (WHERE u.state = 8) AS dead,
           count(*) FILTER (WHERE u.state = 7) AS cancelled
    FROM unnest(p_jobs, p_states) AS u(id, state) GROUP BY u.id
  ) c WHERE b.id = c.id;
  PERFORM millstream.end_batches(v_batches);
END $$;

-- Takes up what was noted of batches that nobody holds any more: the leader calls it.
CREATE FUNCTION millstream.count_noted(p_limit int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_batches uuid[] := ARRAY(
    SELECT b.id FROM millstream.batch b
    WHERE b.id IN (SELECT c.batch_id FROM millstream.batch_change c WHERE c.work IS NULL)
    ORDER BY b.id LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED);
BEGIN
  IF v_batches <> '{}' THEN
    PERFORM millstream.fold_changes(v_batches);
    PERFORM millstream.end_batches(v_batches);
  END IF;
END $$;

-- For whoever has completed jobs: the batches of those jobs, one for each.
CREATE FUNCTION millstream.count_completed(p_batches uuid[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM millstream.count_in_batches(p_batches, NULL);
END $$;

-- For whoever has buried or cancelled jobs: those of them that have a batch.
CREATE FUNCTION millstream.count_failed(p_jobs uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_batches uuid[];
  v_states smallint[];
BEGIN
  SELECT array_agg(j.batch_id), array_agg(j.state) INTO v_batches, v_states
  FROM millstream.job j WHERE j.id = ANY (p_jobs) AND j.batch_id IS NOT NULL;
  IF v_batches IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO millstream.batch_failure (batch_id, job_id, work, error)
  SELECT j.batch_id, j.id, millstream.work_of(j.kind_id, j.metadata),
         CASE j.state WHEN 7 THEN 'cancelled' ELSE COALESCE(j.error, 'no reason was given') END
  FROM millstream.job j JOIN millstream.batch b ON b.id = j.batch_id
  WHERE j.id = ANY (p_jobs)
  -- A job that died, was purged and was enqueued again with its id.
  ON CONFLICT (batch_id, job_id) DO UPDATE SET error = EXCLUDED.error, at = now();
  PERFORM millstream.count_in_batches(v_batches, v_states);
END $$;

-- For whoever has given dead jobs another chance. A batch that had failed with them is sealed
-- again, and ends anew. One that has completed in spite of them, or was cancelled, stays so.
CREATE FUNCTION millstream.count_back(p_jobs uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_batches uuid[];
BEGIN
  WITH risen AS (
    DELETE FROM millstream.batch_failure f
    USING (SELECT id, batch_id FROM millstream.job
           WHERE id = ANY (p_jobs) AND batch_id IS NOT NULL) j
    WHERE f.batch_id = j.batch_id AND f.job_id = j.id RETURNING f.batch_id
  ) SELECT array_agg(batch_id) INTO v_batches FROM risen;
  IF v_batches IS NULL THEN
    RETURN;
  END IF;
  PERFORM 1 FROM millstream.batch WHERE id = ANY (v_batches) ORDER BY id FOR NO KEY UPDATE;
  PERFORM millstream.fold_changes(v_batches);
  UPDATE millstream.batch b
  SET dead = b.dead - c.jobs, state = CASE WHEN b.state = 'failed' THEN 'sealed' ELSE b.state END,
      ended_at = CASE WHEN b.state <> 'failed' THEN b.ended_at END
  FROM (SELECT u.id, count(*) AS jobs FROM unnest(v_batches) AS u(id) GROUP BY u.id) c
  WHERE b.id = c.id;
END $$;

-- For whoever adds jobs, before: refuses what a batch does not take. It takes jobs of its tenant
-- while it is open. Sealed, it takes those that a job of it adds with its own completion: the
-- transaction that has completed the job says so in `millstream.settling`, and counts it last, so
-- the batch cannot end before it knows of the new jobs.
CREATE FUNCTION millstream.admit_to_batches(p_batches uuid[], p_tenants int[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_refused uuid;
BEGIN
  -- Who seals a batch waits for this lock; who counts in it does not.
  PERFORM 1 FROM millstream.batch WHERE id = ANY (p_batches) ORDER BY id FOR KEY SHARE;
  SELECT u.id INTO v_refused FROM (
    SELECT DISTINCT b AS id, t AS tenant_id FROM unnest(p_batches, p_tenants) AS x(b, t)
    WHERE b IS NOT NULL
  ) u LEFT JOIN millstream.batch b ON b.id = u.id AND b.tenant_id = u.tenant_id
    AND (b.state = 'open' OR b.state = 'sealed' AND NOT b.is_cancelled AND b.id = (
      SELECT j.batch_id FROM millstream.job j
      WHERE j.id = NULLIF(current_setting('millstream.settling', true), '')::uuid
        AND j.state = 2 AND j.xmin = pg_current_xact_id()::xid))
  WHERE b.id IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'batch % takes no jobs of this tenant: it is sealed, or there is none',
      v_refused USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END $$;

-- The same, after: counts those of these jobs that are there. The caller has inserted them.
CREATE FUNCTION millstream.note_added(p_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO millstream.batch_change (batch_id, work, added)
  SELECT j.batch_id, millstream.work_of(j.kind_id, j.metadata), count(*)
  FROM millstream.job j WHERE j.id = ANY (p_ids) AND j.batch_id IS NOT NULL GROUP BY 1, 2;
END $$;

-- `persist` for jobs of which some have a batch.
CREATE FUNCTION millstream.persist_in_batches(
  p_ids uuid[], p_queues int[], p_kinds int[], p_tenants int[], p_priorities smallint[],
  p_payloads text[], p_max_attempts smallint[], p_ready_at timestamptz[], p_keys text[],
  p_metadata text[], p_traces text[], p_batches uuid[], p_publish boolean, p_versions smallint[]
) RETURNS TABLE (
  parcel_id bigint, queue_id int, priority smallint, chunk smallint, publishing boolean, ids uuid[]
) LANGUAGE plpgsql AS $$
DECLARE
  v_added uuid[] := '{}';
BEGIN
  PERFORM millstream.admit_to_batches(p_batches, p_tenants);
  FOR parcel_id, queue_id, priority, chunk, publishing, ids IN
    SELECT p.* FROM millstream.persist(
      p_ids, p_queues, p_kinds, p_tenants, p_priorities, p_payloads, p_max_attempts, p_ready_at,
      p_keys, p_metadata, p_traces, p_batches, p_publish, p_versions) AS p
  LOOP
    v_added := v_added || ids;
    RETURN NEXT;
  END LOOP;
  PERFORM millstream.note_added(v_added);
END $$;

-- Closes a batch: nobody outside of it can add jobs any more, so it can end. It waits a moment for
-- those who are adding. `p_cancel`: its end will be 'cancelled', and the caller cancels its jobs.
-- Returns its state, or null if there is none. Safe to repeat.
CREATE FUNCTION millstream.close_batch(p_id uuid, p_cancel boolean)
RETURNS text LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
  PERFORM 1 FROM millstream.batch WHERE id = p_id FOR UPDATE;
  PERFORM millstream.fold_changes(ARRAY[p_id]);
  UPDATE millstream.batch
  SET state = 'sealed', sealed_at = COALESCE(sealed_at, now()),
      is_cancelled = is_cancelled OR p_cancel
  WHERE id = p_id AND (state = 'open' OR state = 'sealed' AND p_cancel);
  PERFORM millstream.end_batches(ARRAY[p_id]);
  RETURN (SELECT state FROM millstream.batch WHERE id = p_id);
END $$;

-- The door for callers, who seal their own batches and not those of Millstream. Like the other
-- doors for SQL it runs with its owner's rights.
CREATE FUNCTION millstream.seal_batch(p_id uuid)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM millstream.batch WHERE id = p_id AND system IS NOT NULL) THEN
    RAISE EXCEPTION 'batch % is not one of a caller: Millstream itself moves it', p_id
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN millstream.close_batch(p_id, false);
END $$;

-- The door. Safe to repeat with the same id. `next_kind`: the kind of the job that follows. Its
-- payload gets a field `batch` that says how the batch has ended.
CREATE FUNCTION millstream.open_batch(
  name text DEFAULT NULL, tenant text DEFAULT 'default', failure_share_max real DEFAULT 0,
  next_kind text DEFAULT NULL, next_payload jsonb DEFAULT '{}', next_queue text DEFAULT 'default',
  next_on text DEFAULT 'ended', id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  v_id uuid := COALESCE(id, millstream.uuid_v7());
  v_tenant int := (SELECT t.id FROM millstream.tenant t WHERE t.name = tenant);
  v_kind int := (SELECT k.id FROM millstream.kind k WHERE k.name = next_kind);
  v_queue int := (SELECT q.id FROM millstream.queue q WHERE q.name = next_queue);
  v_fault text := CASE
    WHEN v_tenant IS NULL THEN format('there is no tenant "%s"', tenant)
    WHEN length(name) NOT BETWEEN 1 AND 255 THEN 'the name of a batch has 1 to 255 characters'
    WHEN failure_share_max IS NULL OR NOT failure_share_max BETWEEN 0 AND 1
      THEN 'failure_share_max is a share between 0 and 1'
    WHEN next_kind IS NOT NULL AND v_kind IS NULL THEN format('there is no kind "%s"', next_kind)
    WHEN next_kind LIKE 'document.%'
      THEN format('jobs of kind "%s" are made by the document pipeline', next_kind)
    WHEN v_queue IS NULL THEN format('there is no queue "%s"', next_queue)
    WHEN next_on IS NULL OR next_on NOT IN ('ended', 'completed')
      THEN 'next_on is "ended" or "completed"'
    WHEN jsonb_typeof(next_payload) IS DISTINCT FROM 'object'
      THEN 'next_payload is a JSON object: it gets a field "batch"'
    -- With the field `batch`, whose name may have 255 escaped letters, it must fit into a job.
    WHEN octet_length(next_payload::text) > 60000 THEN 'next_payload has at most 60000 bytes'
    ELSE 'next_payload ' || millstream.json_fault(next_payload, next_payload::text)
  END;
BEGIN
  IF v_fault IS NOT NULL THEN
    RAISE EXCEPTION '%', v_fault USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO millstream.batch (id, tenant_id, name, failure_share_max, next_kind_id,
                                next_queue_id, next_payload, next_on)
  VALUES (v_id, v_tenant, name, failure_share_max, v_kind,
          CASE WHEN v_kind IS NOT NULL THEN v_queue END,
          CASE WHEN v_kind IS NOT NULL THEN next_payload::text END, next_on)
  ON CONFLICT DO NOTHING;
  RETURN v_id;
END $$;

-- Batches as people and other languages see them. `pending` are jobs that have not ended. The end
-- is estimated from the mean rate since the batch was opened.
CREATE VIEW millstream.batch_view AS
SELECT b.id, b.name, t.name::text AS tenant, b.system, b.state, n.total,
       n.total - n.ended AS pending, n.succeeded, n.dead, n.cancelled,
       CASE WHEN b.state IN ('completed', 'failed', 'cancelled') THEN 1
            ELSE n.ended::float8 / GREATEST(n.total, 1) END AS progress,
       b.failure_share_max, k.name::text AS next_kind, b.next_job_id,
       b.created_at, b.sealed_at, b.ended_at,
       CASE WHEN b.state = 'sealed' AND n.ended > 0
            THEN now() + LEAST(
              extract(epoch FROM now() - b.created_at) * (n.total - n.ended) / n.ended,
              3155760000                     -- a hundred years, for those that hardly move
            ) * interval '1 second'
       END AS end_estimated_at
FROM millstream.batch b
JOIN millstream.tenant t ON t.id = b.tenant_id
LEFT JOIN millstream.kind k ON k.id = b.next_kind_id
CROSS JOIN LATERAL (
  SELECT (b.total + COALESCE(sum(c.added), 0))::int AS total,
         (b.succeeded + COALESCE(sum(c.succeeded), 0))::int AS succeeded,
         (b.dead + COALESCE(sum(c.dead), 0))::int AS dead,
         (b.cancelled + COALESCE(sum(c.cancelled), 0))::int AS cancelled,
         (b.succeeded + b.dead + b.cancelled
          + COALESCE(sum(c.succeeded + c.dead + c.cancelled), 0))::int AS ended
  FROM millstream.batch_change c WHERE c.batch_id = b.id
) n;
