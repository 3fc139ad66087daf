-- How a document moves through its five stages. The jobs of a stage are a batch. The transaction
-- that ends the last job of the batch ends the stage and starts the next one, whatever ends that
-- job (a worker, a rescue, a cancel).
--
-- Lock order: jobs, batches, documents, stages.

-- Per cent of a document from the counters of one stage. It never falls, and reaches the end of the
-- stage only with it: a job that has reported its last item has not settled yet. Only completed
-- documents are at 100.
CREATE FUNCTION millstream.lift_progress(p_stage millstream.stage)
RETURNS void LANGUAGE sql AS $$
  UPDATE millstream.document SET progress = GREATEST(progress,
    (p_stage).progress_from + ((p_stage).progress_to - (p_stage).progress_from)
      * CASE WHEN (p_stage).state = 'completed' THEN 1
             ELSE LEAST(((p_stage).completed_items + (p_stage).failed_items)::real
                        / GREATEST((p_stage).total_items, 1), 0.999) END)
  WHERE id = (p_stage).document_id AND state = 'running'
$$;

-- Starts a stage: its batch is open from here on.
CREATE FUNCTION millstream.start_stage(p_stage uuid, p_tenant int)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE millstream.stage SET state = 'running', started_at = now() WHERE id = p_stage;
  INSERT INTO millstream.batch (id, tenant_id, system, name, failure_share_max)
  SELECT id, p_tenant, 'documents', name, failure_share_max
  FROM millstream.stage WHERE id = p_stage;
END $$;

-- Starts a stage of one job, with that job.
CREATE FUNCTION millstream.start_stage_job(
  p_document uuid, p_stage uuid, p_kind text, p_tenant int, p_queue text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM millstream.start_stage(p_stage, p_tenant);
  PERFORM millstream.persist_in_batches(
    ARRAY[millstream.uuid_v7()],
    ARRAY[(SELECT id FROM millstream.queue WHERE name = p_queue)],
    ARRAY[(SELECT id FROM millstream.kind WHERE name = p_kind)],
    ARRAY[p_tenant], ARRAY[1::smallint],
    ARRAY[json_build_object('document_id', p_document)::text],
    ARRAY[NULL::smallint], ARRAY[NULL::timestamptz], NULL, ARRAY[NULL], ARRAY[NULL],
    ARRAY[p_stage], false, NULL);
  PERFORM millstream.close_batch(p_stage, false);
END $$;

-- The name of a kind of work in messages and codes.
CREATE FUNCTION millstream.work_name(p_work text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT replace(p_work, 'document.', '')
$$;

-- The place that a job of the pipeline works on. A payload that is no JSON names none.
CREATE FUNCTION millstream.place_of(p_job uuid) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN COALESCE((SELECT payload::jsonb FROM millstream.job WHERE id = p_job), '{}');
EXCEPTION WHEN data_exception THEN
  RETURN '{}';
END $$;

-- A failed job of a fan-out stage is named in the report, at the place that it worked on.
CREATE FUNCTION millstream.note_failure() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  work text := millstream.work_name(NEW.work);
  place jsonb;
  fanned millstream.stage;
BEGIN
  SELECT * INTO fanned FROM millstream.stage WHERE id = NEW.batch_id AND start_kind IS NULL;
  IF fanned.id IS NULL THEN
    RETURN NULL;
  END IF;
  place := millstream.place_of(NEW.job_id);
  INSERT INTO millstream.document_note (document_id, page, position, chunk, code, message)
  SELECT fanned.document_id, COALESCE((place ->> 'page')::int, c.page_first),
         (place ->> 'position')::int, (place ->> 'ordinal')::int,
         work || '_failed', left(work || ' failed: ' || NEW.error, 2000)
  FROM (SELECT) AS one
  LEFT JOIN millstream.chunk c
    ON c.document_id = fanned.document_id AND c.ordinal = (place ->> 'ordinal')::int
  ON CONFLICT (document_id, COALESCE(page, 0), COALESCE(position, -1), COALESCE(chunk, -1), code)
  DO UPDATE SET message = EXCLUDED.message, at = now();
  RETURN NULL;
END $$;
CREATE TRIGGER document_failure AFTER INSERT ON millstream.batch_failure FOR EACH ROW
  EXECUTE FUNCTION millstream.note_failure();

-- Takes the note of that place away when the job gets another chance.
CREATE FUNCTION millstream.forget_failure() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  place jsonb;
  document uuid := (SELECT document_id FROM millstream.stage WHERE id = OLD.batch_id);
BEGIN
  IF document IS NULL THEN
    RETURN NULL;
  END IF;
  place := millstream.place_of(OLD.job_id);
  DELETE FROM millstream.document_note n
  WHERE n.document_id = document AND n.code = millstream.work_name(OLD.work) || '_failed'
    AND n.position IS NOT DISTINCT FROM (place ->> 'position')::int
    AND n.chunk IS NOT DISTINCT FROM (place ->> 'ordinal')::int
    AND (n.chunk IS NOT NULL OR n.page IS NOT DISTINCT FROM (place ->> 'page')::int);
  RETURN NULL;
END $$;
CREATE TRIGGER document_failure_again AFTER DELETE ON millstream.batch_failure FOR EACH ROW
  EXECUTE FUNCTION millstream.forget_failure();

-- Why the document failed: the kind of work with the largest share of failures.
CREATE FUNCTION millstream.reason_of(p_stage millstream.stage, p_jobs int)
RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN p_jobs = 1 THEN f.error
    ELSE f.jobs || ' of ' || w.total || ' ' || millstream.work_name(w.work)
         || ' jobs of stage ' || (p_stage).name || ' failed, the last one: ' || f.error END
  FROM millstream.batch_work w JOIN (
    SELECT work, count(*) AS jobs, (array_agg(error ORDER BY at DESC, job_id DESC))[1] AS error
    FROM millstream.batch_failure WHERE batch_id = (p_stage).id GROUP BY work
  ) f ON f.work = w.work
  WHERE w.batch_id = (p_stage).id
  ORDER BY f.jobs::real / GREATEST(w.total, 1) DESC, w.work LIMIT 1
$$;

CREATE FUNCTION millstream.fail_stage(p_stage millstream.stage, p_jobs int)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE millstream.stage SET state = 'failed', finished_at = now(), current_item = NULL
  WHERE id = p_stage.id;
  UPDATE millstream.document
  SET state = 'failed', finished_at = now(), error = millstream.reason_of(p_stage, p_jobs)
  WHERE id = p_stage.document_id AND state = 'running';
END $$;

-- Ends a stage, and starts the next one or completes the document.
CREATE FUNCTION millstream.complete_stage(p_stage millstream.stage)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  following millstream.stage;
BEGIN
  UPDATE millstream.stage SET state = 'completed', finished_at = now(), current_item = NULL,
    completed_items = total_items - failed_items
  WHERE id = p_stage.id RETURNING * INTO p_stage;
  PERFORM millstream.lift_progress(p_stage);
  SELECT * INTO following FROM millstream.stage
  WHERE document_id = p_stage.document_id AND ordinal = p_stage.ordinal + 1;
  IF following.id IS NULL THEN
    UPDATE millstream.document SET state = 'completed', progress = 100, finished_at = now()
    WHERE id = p_stage.document_id AND state = 'running';
  ELSIF following.start_kind IS NOT NULL THEN
    PERFORM millstream.start_stage_job(p_stage.document_id, following.id, following.start_kind,
      (SELECT tenant_id FROM millstream.document WHERE id = p_stage.document_id), 'documents');
  END IF;
END $$;

-- A dead job that gets another chance takes its stage, and the document that failed with it, back
-- to running. A stage that was completed in spite of it stays completed; the job then only mends
-- its rows.
CREATE FUNCTION millstream.reopen_stage(p_stage uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE millstream.stage SET state = 'running', finished_at = NULL
  WHERE id = p_stage AND state = 'failed';
  UPDATE millstream.document SET state = 'running', error = NULL, finished_at = NULL
  WHERE id = (SELECT document_id FROM millstream.stage WHERE id = p_stage) AND state = 'failed';
END $$;

-- Fan-out: opens a stage that gets many jobs, in the transaction that adds them and then seals its
-- batch. A stage without jobs is over at once.
CREATE FUNCTION millstream.open_stage(p_document uuid, p_ordinal smallint)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
  opened uuid := (
    SELECT id FROM millstream.stage
    WHERE document_id = p_document AND ordinal = p_ordinal AND state = 'pending' FOR NO KEY UPDATE);
BEGIN
  IF opened IS NULL THEN
    RAISE EXCEPTION 'stage % of document % was opened before', p_ordinal, p_document;
  END IF;
  PERFORM millstream.start_stage(
    opened, (SELECT tenant_id FROM millstream.document WHERE id = p_document));
  RETURN opened;
END $$;

-- Fan-in: what a batch has counted becomes items and progress of its stage, and its end is the end
-- of the stage. A fan-out stage counts its jobs as items. The job of a stage of one job reports its
-- items (report_stage).
CREATE FUNCTION millstream.follow_batch(p_id uuid, p_was text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_batch millstream.batch;
  counted millstream.stage;
BEGIN
  SELECT * INTO v_batch FROM millstream.batch WHERE id = p_id;
  IF p_was = 'failed' AND v_batch.state = 'sealed' THEN
    PERFORM millstream.reopen_stage(v_batch.id);
  END IF;
  UPDATE millstream.stage SET
    total_items = CASE WHEN start_kind IS NULL THEN v_batch.total ELSE total_items END,
    completed_items = CASE WHEN start_kind IS NULL THEN v_batch.succeeded
                           ELSE completed_items END,
    failed_items = CASE WHEN start_kind IS NULL THEN v_batch.dead + v_batch.cancelled
                        ELSE failed_items END
  WHERE id = v_batch.id AND state = 'running' RETURNING * INTO counted;
  IF counted.id IS NULL THEN
    RETURN;
  ELSIF v_batch.state = 'completed' THEN
    PERFORM millstream.complete_stage(counted);
  ELSIF v_batch.state IN ('failed', 'cancelled') THEN
    PERFORM millstream.fail_stage(counted, v_batch.total);
  ELSE
    PERFORM millstream.lift_progress(counted);
  END IF;
END $$;

CREATE FUNCTION millstream.follow_batches() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  moved record;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM after WHERE system = 'documents') THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM millstream.document WHERE id IN (
    SELECT s.document_id FROM after a JOIN millstream.stage s ON s.id = a.id)
  ORDER BY id FOR NO KEY UPDATE;
  FOR moved IN
    SELECT a.id, b.state AS was FROM after a JOIN before b ON b.id = a.id
    WHERE a.system = 'documents' ORDER BY a.id
  LOOP
    PERFORM millstream.follow_batch(moved.id, moved.was);
  END LOOP;
  RETURN NULL;
END $$;
CREATE TRIGGER document_batch AFTER UPDATE ON millstream.batch
  REFERENCING OLD TABLE AS before NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION millstream.follow_batches();

-- Live progress inside a stage of one job. A report of an earlier or frozen run can only repeat
-- what is there.
CREATE FUNCTION millstream.report_stage(p_stage uuid, p_completed int, p_total int, p_item text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  told millstream.stage;
BEGIN
  PERFORM 1 FROM millstream.document
  WHERE id = (SELECT document_id FROM millstream.stage WHERE id = p_stage) FOR NO KEY UPDATE;
  UPDATE millstream.stage SET total_items = GREATEST(total_items, p_total),
    completed_items = GREATEST(completed_items, LEAST(p_completed, GREATEST(total_items, p_total))),
    current_item = p_item
  WHERE id = p_stage AND state = 'running' RETURNING * INTO told;
  IF told.id IS NOT NULL THEN
    PERFORM millstream.lift_progress(told);
  END IF;
END $$;

-- The door for documents whose bytes are in the object store already. Safe to repeat with the same
-- id.
CREATE FUNCTION millstream.submit_document(
  p_id uuid, p_tenant int, p_name text, p_object_key text, p_bytes bigint, p_sha256 text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  first_stage uuid;
BEGIN
  INSERT INTO millstream.document (id, tenant_id, name, object_key, bytes, sha256)
  VALUES (p_id, p_tenant, p_name, p_object_key, p_bytes, p_sha256) ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  -- The last column is the tolerance: how large a share of one kind of the stage's work may fail.
  INSERT INTO millstream.stage
    (document_id, ordinal, name, start_kind, progress_from, progress_to, failure_share_max)
  VALUES
    (p_id, 1, 'extraction', 'document.extract', 0, 20, 0),
    (p_id, 2, 'images', NULL, 20, 40, 0.5),
    (p_id, 3, 'chunking', 'document.chunk', 40, 60, 0),
    (p_id, 4, 'analysis', NULL, 60, 90, 0.5),
    (p_id, 5, 'products', 'document.products', 90, 100, 0);
  SELECT id INTO first_stage FROM millstream.stage WHERE document_id = p_id AND ordinal = 1;
  PERFORM millstream.start_stage_job(
    p_id, first_stage, 'document.extract', p_tenant, 'documents');
END $$;

-- Makes a document of an upload. False: the upload was given up meanwhile, and its object is gone
-- or will be. An upload whose document is there already is a repetition, and harmless.
CREATE FUNCTION millstream.submit_upload(
  p_id uuid, p_tenant int, p_name text, p_object_key text, p_bytes bigint, p_sha256 text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM millstream.upload WHERE id = p_id AND NOT abandoned;
  IF NOT FOUND THEN
    RETURN EXISTS (SELECT 1 FROM millstream.document WHERE id = p_id);
  END IF;
  PERFORM millstream.submit_document(p_id, p_tenant, p_name, p_object_key, p_bytes, p_sha256);
  RETURN true;
END $$;
