-- What a document has yielded and what was left out of it, and failures counted by the kind of work, so that a stage's tolerance cannot hide
-- that one kind failed altogether. Constants by default: no rewrite, no long lock; the release before leaves them so.

-- Where the text of a page comes from: its own text, OCR of its pictures, or nowhere.
ALTER TABLE millstream.page ADD COLUMN source text NOT NULL DEFAULT 'text' CHECK (source IN ('text', 'ocr', 'none'));
UPDATE millstream.page SET source = 'none' WHERE text = '';

-- Remarks on a document, each at most once at its place: a repeated run writes the same ones.
CREATE TABLE millstream.document_note (
  document_id uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  page        int,                       -- null: the document as a whole
  position    int,                       -- of the picture on its page; null: no picture
  chunk       int,                       -- null: no chunk
  code        text NOT NULL,             -- for programs and for counting
  message     text NOT NULL,             -- for people
  at          timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX document_note_place
  ON millstream.document_note (document_id, (COALESCE(page, 0)), (COALESCE(position, -1)), (COALESCE(chunk, -1)), code);

-- The jobs of a fan-out stage by what they do. Only failures are counted, so that a success costs nothing here.
CREATE TABLE millstream.stage_work (
  stage_id    bigint NOT NULL REFERENCES millstream.stage ON DELETE CASCADE,
  work        text NOT NULL,             -- as millstream.work_of names it
  jobs_total  int NOT NULL,
  jobs_failed int NOT NULL DEFAULT 0,
  error       text,                      -- of the last one that failed
  PRIMARY KEY (stage_id, work)
);

-- What a job of a stage does: "image", "embed", or the analysis that it asks for. A payload that is no JSON says nothing more.
CREATE FUNCTION millstream.work_of(p_kind int, p_payload text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  kind_name text := (SELECT replace(name::text, 'document.', '') FROM millstream.kind WHERE id = p_kind);
BEGIN
  RETURN COALESCE(p_payload::jsonb ->> 'analysis', kind_name);
EXCEPTION WHEN data_exception THEN
  RETURN kind_name;
END $$;

-- A failed job of a fan-out stage is named in the report, at the place that it worked on.
CREATE FUNCTION millstream.note_failure(p_stage bigint, p_work text, p_payload text, p_error text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  place jsonb;
BEGIN
  BEGIN
    place := p_payload::jsonb;
  EXCEPTION WHEN data_exception THEN
    place := '{}';
  END;
  INSERT INTO millstream.document_note (document_id, page, position, chunk, code, message)
  SELECT s.document_id, COALESCE((place ->> 'page')::int, c.page_first), (place ->> 'position')::int, (place ->> 'ordinal')::int,
    p_work || '_failed', left(p_work || ' failed: ' || p_error, 2000)
  FROM millstream.stage s
  LEFT JOIN millstream.chunk c ON c.document_id = s.document_id AND c.ordinal = (place ->> 'ordinal')::int
  WHERE s.id = p_stage AND s.start_kind IS NULL
  ON CONFLICT (document_id, COALESCE(page, 0), COALESCE(position, -1), COALESCE(chunk, -1), code) DO UPDATE
  SET message = EXCLUDED.message, at = now();
END $$;

-- The same place, when the job gets another chance.
CREATE FUNCTION millstream.forget_failure(p_stage bigint, p_work text, p_payload text) RETURNS void LANGUAGE plpgsql AS $$
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
    AND n.position IS NOT DISTINCT FROM (place ->> 'position')::int AND n.chunk IS NOT DISTINCT FROM (place ->> 'ordinal')::int
    AND (n.chunk IS NOT NULL OR n.page IS NOT DISTINCT FROM (place ->> 'page')::int);
END $$;

-- Ends a stage whose jobs have all ended: fails the document, starts the next stage, or completes the document.
CREATE OR REPLACE FUNCTION millstream.finish_stage(p_stage millstream.stage, p_error text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  following millstream.stage;
  owner int;
  total int;
  failed int;
  what text;
  reason text;
BEGIN
  SELECT w.jobs_total, w.jobs_failed, w.work || ' ', COALESCE(w.error, p_error) INTO total, failed, what, reason
  FROM millstream.stage_work w WHERE w.stage_id = p_stage.id ORDER BY w.jobs_failed::real / GREATEST(w.jobs_total, 1) DESC, w.work LIMIT 1;
  -- Of stages of one job, and of those that an older release opened, the work is not told apart.
  IF NOT FOUND THEN
    total := p_stage.jobs_total;
    failed := p_stage.jobs_failed;
    what := '';
    reason := p_error;
  END IF;
  IF failed > p_stage.failure_share_max * total THEN
    UPDATE millstream.stage SET state = 'failed', finished_at = now(), current_item = NULL WHERE id = p_stage.id;
    UPDATE millstream.document SET state = 'failed', finished_at = now(),
      error = CASE WHEN p_stage.jobs_total = 1 AND reason IS NOT NULL THEN reason
        ELSE failed || ' of ' || total || ' ' || what || 'jobs of stage ' || p_stage.name || ' failed' || COALESCE(', the last one: ' || reason, '') END
    WHERE id = p_stage.document_id AND state = 'running';
    RETURN;
  END IF;
  UPDATE millstream.stage SET state = 'completed', finished_at = now(), current_item = NULL,
    started_at = COALESCE(started_at, now()), completed_items = total_items - failed_items
  WHERE id = p_stage.id RETURNING * INTO p_stage;
  PERFORM millstream.lift_progress(p_stage);
  SELECT * INTO following FROM millstream.stage WHERE document_id = p_stage.document_id AND ordinal = p_stage.ordinal + 1;
  IF following.id IS NULL THEN
    UPDATE millstream.document SET state = 'completed', progress = 100, finished_at = now()
    WHERE id = p_stage.document_id AND state = 'running';
  ELSIF following.start_kind IS NOT NULL THEN
    SELECT tenant_id INTO owner FROM millstream.document WHERE id = p_stage.document_id;
    PERFORM millstream.start_stage_job(p_stage.document_id, following.id, following.start_kind, owner, 'documents');
  END IF;
END $$;

-- Fan-in: counts every job of a stage that reaches a final state, in the transaction in which it does.
CREATE OR REPLACE FUNCTION millstream.count_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  counted millstream.stage;
  bad int := (NEW.state <> 2)::int;
  -- A job that completed at last still shows the error of its attempt before.
  reason text := CASE NEW.state WHEN 7 THEN 'a job of it was cancelled' WHEN 8 THEN NEW.error END;
  what text;
BEGIN
  UPDATE millstream.stage SET jobs_finished = jobs_finished + 1, jobs_failed = jobs_failed + bad,
    -- A fan-out stage counts its jobs as items; a stage of one job is told its items by that job (report_stage).
    completed_items = completed_items + CASE WHEN start_kind IS NULL THEN 1 - bad ELSE 0 END,
    failed_items = failed_items + CASE WHEN start_kind IS NULL THEN bad ELSE 0 END
  WHERE id = NEW.stage_id AND state = 'running' RETURNING * INTO counted;
  IF bad = 1 THEN
    what := millstream.work_of(NEW.kind_id, NEW.payload);
    PERFORM millstream.note_failure(NEW.stage_id, what, NEW.payload, COALESCE(reason, 'no reason was given'));
    UPDATE millstream.stage_work w SET jobs_failed = jobs_failed + 1, error = reason WHERE w.stage_id = counted.id AND w.work = what;
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

-- A dead job that gets another chance takes its stage, and the document that failed with it, back to running: it is
-- counted again when it ends. A stage that was completed in spite of it stays completed; the job then only mends its rows.
CREATE OR REPLACE FUNCTION millstream.reopen_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  reopened millstream.stage;
  what text := millstream.work_of(NEW.kind_id, NEW.payload);
BEGIN
  UPDATE millstream.stage SET state = 'running', finished_at = NULL, jobs_finished = jobs_finished - 1, jobs_failed = jobs_failed - 1,
    failed_items = failed_items - CASE WHEN start_kind IS NULL THEN 1 ELSE 0 END
  WHERE id = NEW.stage_id AND state IN ('running', 'failed') RETURNING * INTO reopened;
  UPDATE millstream.stage_work w SET jobs_failed = jobs_failed - 1 WHERE w.stage_id = reopened.id AND w.work = what;
  PERFORM millstream.forget_failure(NEW.stage_id, what, NEW.payload);
  UPDATE millstream.document SET state = 'running', error = NULL, finished_at = NULL WHERE id = reopened.document_id AND state = 'failed';
  RETURN NULL;
END $$;
