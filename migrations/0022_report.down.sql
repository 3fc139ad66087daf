-- The stages as they were: failures counted for the stage as a whole, and no report.
CREATE OR REPLACE FUNCTION millstream.finish_stage(p_stage millstream.stage, p_error text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  following millstream.stage;
  owner int;
BEGIN
  IF p_stage.jobs_failed > p_stage.failure_share_max * p_stage.jobs_total THEN
    UPDATE millstream.stage SET state = 'failed', finished_at = now(), current_item = NULL WHERE id = p_stage.id;
    UPDATE millstream.document SET state = 'failed', finished_at = now(),
      error = CASE WHEN p_stage.jobs_total = 1 AND p_error IS NOT NULL THEN p_error
        ELSE p_stage.jobs_failed || ' of ' || p_stage.jobs_total || ' jobs of stage ' || p_stage.name || ' failed' || COALESCE(', the last one: ' || p_error, '') END
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

CREATE OR REPLACE FUNCTION millstream.count_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  counted millstream.stage;
  bad int := (NEW.state <> 2)::int;
BEGIN
  UPDATE millstream.stage SET jobs_finished = jobs_finished + 1, jobs_failed = jobs_failed + bad,
    -- A fan-out stage counts its jobs as items; a stage of one job is told its items by that job (report_stage).
    completed_items = completed_items + CASE WHEN start_kind IS NULL THEN 1 - bad ELSE 0 END,
    failed_items = failed_items + CASE WHEN start_kind IS NULL THEN bad ELSE 0 END
  WHERE id = NEW.stage_id AND state = 'running' RETURNING * INTO counted;
  IF counted.id IS NULL THEN
    RETURN NULL;
  END IF;
  IF counted.jobs_finished = counted.jobs_total THEN
    -- A job that completed at last still shows the error of its attempt before.
    PERFORM millstream.finish_stage(counted, CASE NEW.state WHEN 7 THEN 'a job of it was cancelled' WHEN 8 THEN NEW.error END);
  ELSE
    PERFORM millstream.lift_progress(counted);
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION millstream.reopen_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  reopened uuid;
BEGIN
  UPDATE millstream.stage SET state = 'running', finished_at = NULL, jobs_finished = jobs_finished - 1, jobs_failed = jobs_failed - 1,
    failed_items = failed_items - CASE WHEN start_kind IS NULL THEN 1 ELSE 0 END
  WHERE id = NEW.stage_id AND state IN ('running', 'failed') RETURNING document_id INTO reopened;
  UPDATE millstream.document SET state = 'running', error = NULL, finished_at = NULL WHERE id = reopened AND state = 'failed';
  RETURN NULL;
END $$;

DROP FUNCTION millstream.forget_failure(bigint, text, text), millstream.note_failure(bigint, text, text, text), millstream.work_of(int, text);
DROP TABLE millstream.stage_work, millstream.document_note;
ALTER TABLE millstream.page DROP COLUMN source;
