-- How a document moves through its five stages. Jobs point to their stage. The transaction that
-- ends the last job of a stage starts the next one, whatever ends that job (a worker, a rescue, a
-- cancel).

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

CREATE FUNCTION millstream.start_stage_job(
  p_document uuid, p_stage bigint, p_kind text, p_tenant int, p_queue text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE millstream.stage SET state = 'running', started_at = now(), jobs_total = 1
  WHERE id = p_stage;
  PERFORM millstream.persist(
    ARRAY[millstream.uuid_v7()],
    ARRAY[(SELECT id FROM millstream.queue WHERE name = p_queue)],
    ARRAY[(SELECT id FROM millstream.kind WHERE name = p_kind)],
    ARRAY[p_tenant], ARRAY[1::smallint],
    ARRAY[json_build_object('document_id', p_document)::text],
    ARRAY[NULL::smallint], ARRAY[NULL::timestamptz], NULL, ARRAY[NULL], ARRAY[NULL],
    ARRAY[p_stage], false, NULL);
END $$;

-- What a job of a stage does: "image", "embed", or the analysis that it asks for. A payload that is
-- no JSON says nothing more.
CREATE FUNCTION millstream.work_of(p_kind int, p_payload text)
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  kind_name text := (
    SELECT replace(name::text, 'document.', '') FROM millstream.kind WHERE id = p_kind);
BEGIN
  RETURN COALESCE(p_payload::jsonb ->> 'analysis', kind_name);
EXCEPTION WHEN data_exception THEN
  RETURN kind_name;
END $$;

-- A failed job of a fan-out stage is named in the report, at the place that it worked on.
CREATE FUNCTION millstream.note_failure(
  p_stage bigint, p_work text, p_payload text, p_error text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  place jsonb;
BEGIN
  BEGIN
    place := p_payload::jsonb;
  EXCEPTION WHEN data_exception THEN
    place := '{}';
  END;
  INSERT INTO millstream.document_note (document_id, page, position, chunk, code, message)
  SELECT s.document_id, COALESCE((place ->> 'page')::int, c.page_first),
         (place ->> 'position')::int, (place ->> 'ordinal')::int,
         p_work || '_failed', left(p_work || ' failed: ' || p_error, 2000)
  FROM millstream.stage s
  LEFT JOIN millstream.chunk c
    ON c.document_id = s.document_id AND c.ordinal = (place ->> 'ordinal')::int
  WHERE s.id = p_stage AND s.start_kind IS NULL
  ON CONFLICT (document_id, COALESCE(page, 0), COALESCE(position, -1), COALESCE(chunk, -1), code)
  DO UPDATE SET message = EXCLUDED.message, at = now();
END $$;

-- Takes the note of that place away when the job gets another chance.
CREATE FUNCTION millstream.forget_failure(p_stage bigint, p_work text, p_payload text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  place jsonb;
BEGIN
  BEGIN
    place := p_payload::jsonb;
  EXCEPTION WHEN data_exception THEN
    place := '{}';
  END;
  DELETE FROM millstream.document_note n USING millstream.stage s
  WHERE s.id = p_stage AND n.document_id = s.document_id AND n.code = p_work || '_failed'
    AND n.position IS NOT DISTINCT FROM (place ->> 'position')::int
    AND n.chunk IS NOT DISTINCT FROM (place ->> 'ordinal')::int
    AND (n.chunk IS NOT NULL OR n.page IS NOT DISTINCT FROM (place ->> 'page')::int);
END $$;

-- Ends a stage whose jobs have all ended: fails the document, starts the next stage, or completes
-- the document.
CREATE FUNCTION millstream.finish_stage(p_stage millstream.stage, p_error text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  following millstream.stage;
  owner int;
  total int;
  failed int;
  what text;
  reason text;
BEGIN
  -- The kind of work with the largest share of failures decides.
  SELECT w.jobs_total, w.jobs_failed, w.work || ' ', COALESCE(w.error, p_error)
  INTO total, failed, what, reason
  FROM millstream.stage_work w WHERE w.stage_id = p_stage.id
  ORDER BY w.jobs_failed::real / GREATEST(w.jobs_total, 1) DESC, w.work LIMIT 1;
  -- Stages of one job have no kinds of work.
  IF NOT FOUND THEN
    total := p_stage.jobs_total;
    failed := p_stage.jobs_failed;
    what := '';
    reason := p_error;
  END IF;
  IF failed > p_stage.failure_share_max * total THEN
    UPDATE millstream.stage SET state = 'failed', finished_at = now(), current_item = NULL
    WHERE id = p_stage.id;
    UPDATE millstream.document SET state = 'failed', finished_at = now(),
      error = CASE WHEN p_stage.jobs_total = 1 AND reason IS NOT NULL THEN reason
        ELSE failed || ' of ' || total || ' ' || what || 'jobs of stage ' || p_stage.name
             || ' failed' || COALESCE(', the last one: ' || reason, '') END
    WHERE id = p_stage.document_id AND state = 'running';
    RETURN;
  END IF;
  UPDATE millstream.stage SET state = 'completed', finished_at = now(), current_item = NULL,
    started_at = COALESCE(started_at, now()), completed_items = total_items - failed_items
  WHERE id = p_stage.id RETURNING * INTO p_stage;
  PERFORM millstream.lift_progress(p_stage);
  SELECT * INTO following FROM millstream.stage
  WHERE document_id = p_stage.document_id AND ordinal = p_stage.ordinal + 1;
  IF following.id IS NULL THEN
    UPDATE millstream.document SET state = 'completed', progress = 100, finished_at = now()
    WHERE id = p_stage.document_id AND state = 'running';
  ELSIF following.start_kind IS NOT NULL THEN
    SELECT tenant_id INTO owner FROM millstream.document WHERE id = p_stage.document_id;
    PERFORM millstream.start_stage_job(
      p_stage.document_id, following.id, following.start_kind, owner, 'documents');
  END IF;
END $$;

-- Fan-out: says how many jobs a stage has, in the transaction that inserts them. A stage without
-- jobs is over at once.
CREATE FUNCTION millstream.open_stage(p_document uuid, p_ordinal smallint, p_jobs int)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  opened millstream.stage;
BEGIN
  UPDATE millstream.stage
  SET state = 'running', started_at = now(), jobs_total = p_jobs, total_items = p_jobs
  WHERE document_id = p_document AND ordinal = p_ordinal AND state = 'pending'
  RETURNING * INTO opened;
  IF opened.id IS NULL THEN
    RAISE EXCEPTION 'stage % of document % was opened before', p_ordinal, p_document;
  END IF;
  IF p_jobs = 0 THEN
    PERFORM millstream.finish_stage(opened, NULL);
  END IF;
  RETURN opened.id;
END $$;

-- Fan-in: counts every job of a stage that reaches a final state, in the transaction in which it
-- does.
CREATE FUNCTION millstream.count_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  counted millstream.stage;
  bad int := (NEW.state <> 2)::int;
  -- A job that completed at last still shows the error of its attempt before.
  reason text := CASE NEW.state WHEN 7 THEN 'a job of it was cancelled' WHEN 8 THEN NEW.error END;
  what text;
BEGIN
  UPDATE millstream.stage SET jobs_finished = jobs_finished + 1, jobs_failed = jobs_failed + bad,
    -- A fan-out stage counts its jobs as items. The job of a stage of one job reports its items
    -- (report_stage).
    completed_items = completed_items + CASE WHEN start_kind IS NULL THEN 1 - bad ELSE 0 END,
    failed_items = failed_items + CASE WHEN start_kind IS NULL THEN bad ELSE 0 END
  WHERE id = NEW.stage_id AND state = 'running' RETURNING * INTO counted;
  IF bad = 1 THEN
    what := millstream.work_of(NEW.kind_id, NEW.payload);
    PERFORM millstream.note_failure(
      NEW.stage_id, what, NEW.payload, COALESCE(reason, 'no reason was given'));
    UPDATE millstream.stage_work w SET jobs_failed = jobs_failed + 1, error = reason
    WHERE w.stage_id = counted.id AND w.work = what;
  END IF;
  IF counted.id IS NULL THEN
    RETURN NULL;
  END IF;
  IF counted.jobs_finished = counted.jobs_total THEN
    PERFORM millstream.finish_stage(counted, reason);
  ELSE
    PERFORM millstream.lift_progress(counted);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER job_stage AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (NEW.stage_id IS NOT NULL AND OLD.state <> NEW.state AND NEW.state IN (2, 7, 8))
  EXECUTE FUNCTION millstream.count_stage();

-- A dead job that gets another chance takes its stage, and the document that failed with it, back
-- to running: it is counted again when it ends. A stage that was completed in spite of it stays
-- completed; the job then only mends its rows.
CREATE FUNCTION millstream.reopen_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  reopened millstream.stage;
  what text := millstream.work_of(NEW.kind_id, NEW.payload);
BEGIN
  UPDATE millstream.stage SET state = 'running', finished_at = NULL,
    jobs_finished = jobs_finished - 1, jobs_failed = jobs_failed - 1,
    failed_items = failed_items - CASE WHEN start_kind IS NULL THEN 1 ELSE 0 END
  WHERE id = NEW.stage_id AND state IN ('running', 'failed') RETURNING * INTO reopened;
  UPDATE millstream.stage_work w SET jobs_failed = jobs_failed - 1
  WHERE w.stage_id = reopened.id AND w.work = what;
  PERFORM millstream.forget_failure(NEW.stage_id, what, NEW.payload);
  UPDATE millstream.document SET state = 'running', error = NULL, finished_at = NULL
  WHERE id = reopened.document_id AND state = 'failed';
  RETURN NULL;
END $$;
CREATE TRIGGER job_stage_again AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (NEW.stage_id IS NOT NULL AND OLD.state = 8 AND NEW.state = 0)
  EXECUTE FUNCTION millstream.reopen_stage();

-- Live progress inside a stage of one job. A report of an earlier or frozen run can only repeat
-- what is there.
CREATE FUNCTION millstream.report_stage(p_stage bigint, p_completed int, p_total int, p_item text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  told millstream.stage;
BEGIN
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
  first_stage bigint;
BEGIN
  INSERT INTO millstream.document (id, tenant_id, name, object_key, bytes, sha256)
  VALUES (p_id, p_tenant, p_name, p_object_key, p_bytes, p_sha256) ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN
    RETURN;
  END IF;
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
