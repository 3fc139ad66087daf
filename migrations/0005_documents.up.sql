-- The document pipeline: five stages, each a row whose counters are the live progress. Jobs point to their stage; the
-- transaction that ends the last job of a stage starts the next one, whoever ends it (a worker, a rescue, a cancel).

CREATE TABLE millstream.document (
  id          uuid PRIMARY KEY,
  tenant_id   int NOT NULL REFERENCES millstream.tenant,
  name        text NOT NULL,
  object_key  text NOT NULL,
  bytes       bigint NOT NULL,
  sha256      text NOT NULL,
  state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'failed')),
  progress    real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),   -- per cent, never falls
  pages       int,
  title       text,
  error       text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
) WITH (fillfactor = 50);

CREATE TABLE millstream.stage (
  id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  document_id       uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  ordinal           smallint NOT NULL,
  name              text NOT NULL,
  start_kind        text,               -- the one job that starts this stage; null: the stage before fans out into it
  progress_from     real NOT NULL,
  progress_to       real NOT NULL,
  failure_share_max real NOT NULL,      -- the document fails when a larger share of the stage's jobs has failed
  state             text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'completed', 'failed')),
  jobs_total        int NOT NULL DEFAULT 0,
  jobs_finished     int NOT NULL DEFAULT 0 CHECK (jobs_finished <= jobs_total),
  jobs_failed       int NOT NULL DEFAULT 0,
  total_items       int NOT NULL DEFAULT 0,
  completed_items   int NOT NULL DEFAULT 0,
  failed_items      int NOT NULL DEFAULT 0,
  current_item      text,
  started_at        timestamptz,
  finished_at       timestamptz,
  UNIQUE (document_id, ordinal),
  CHECK (completed_items + failed_items <= total_items)
) WITH (fillfactor = 50);

CREATE TABLE millstream.page (
  document_id uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  page        int NOT NULL,
  text        text NOT NULL,
  PRIMARY KEY (document_id, page)
);

CREATE TABLE millstream.image (
  document_id    uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  page           int NOT NULL,
  position       int NOT NULL,          -- of the image on its page
  -- A mask is a layer without colours of its own: the text of a scanned page, or the transparency of a picture.
  role           text NOT NULL DEFAULT 'picture' CHECK (role IN ('picture', 'mask')),
  object_key     text NOT NULL,
  width          int NOT NULL,
  height         int NOT NULL,
  sha256         text,
  difference_hash bigint,               -- 64-bit dHash: near-duplicates differ in few bits
  ocr_text       text,
  ocr_confidence real,
  processed_at   timestamptz,
  PRIMARY KEY (document_id, page, position)
);

CREATE TABLE millstream.chunk (
  document_id      uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  ordinal          int NOT NULL,
  page_first       int NOT NULL,
  page_last        int NOT NULL,
  text             text NOT NULL,
  sha256           text NOT NULL,
  tokens_estimated int NOT NULL,
  search           tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED,
  PRIMARY KEY (document_id, ordinal)
);
CREATE INDEX chunk_search ON millstream.chunk USING gin (search);

CREATE TABLE millstream.chunk_analysis (
  document_id uuid NOT NULL,
  ordinal     int NOT NULL,
  analysis    text NOT NULL CHECK (analysis IN ('classification', 'metadata', 'products')),
  model       text NOT NULL,
  result      jsonb NOT NULL,
  PRIMARY KEY (document_id, ordinal, analysis),
  FOREIGN KEY (document_id, ordinal) REFERENCES millstream.chunk ON DELETE CASCADE
);

CREATE TABLE millstream.product (
  document_id uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  ordinal     int NOT NULL,
  name        text NOT NULL,
  sku         text,
  price       numeric(14, 2),
  currency    text,
  detail      jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (document_id, ordinal)
);

-- Vectors of chunks and images. With the pgvector extension at hand the column is a `vector`, else `real[]`; an
-- inserted real[] is cast by assignment, so the statements are the same.
DO $$
DECLARE
  vector_type text := 'real[]';
BEGIN
  IF EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') THEN
    BEGIN
      CREATE EXTENSION IF NOT EXISTS vector;
      vector_type := 'vector';
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE 'pgvector is installed but this role may not create the extension; vectors are stored as real[]';
    END;
  END IF;
  EXECUTE format('CREATE TABLE millstream.embedding (
    document_id  uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
    source       text NOT NULL CHECK (source IN (''chunk'', ''image'')),
    ordinal      int NOT NULL,
    model        text NOT NULL,
    dimension    int NOT NULL,
    content_hash text NOT NULL,
    vector       %s NOT NULL,
    PRIMARY KEY (document_id, source, ordinal, model))', vector_type);
END $$;

-- The two kinds that may call a server somewhere else try longer: it can be down for a minute.
INSERT INTO millstream.kind (name, max_attempts) VALUES
  ('document.extract', 3), ('document.image', 3), ('document.chunk', 3), ('document.analyse', 6), ('document.embed', 6), ('document.products', 3);

-- Per cent of a document from the counters of one stage. Never falls, and reaches the end of the stage only with it: a job that
-- has reported its last item has not settled yet, and 100 is said of completed documents only.
CREATE FUNCTION millstream.lift_progress(p_stage millstream.stage) RETURNS void LANGUAGE sql AS $$
  UPDATE millstream.document SET progress = GREATEST(progress,
    (p_stage).progress_from + ((p_stage).progress_to - (p_stage).progress_from)
      * CASE WHEN (p_stage).state = 'completed' THEN 1
             ELSE LEAST(((p_stage).completed_items + (p_stage).failed_items)::real / GREATEST((p_stage).total_items, 1), 0.999) END)
  WHERE id = (p_stage).document_id AND state = 'running'
$$;

CREATE FUNCTION millstream.start_stage_job(p_document uuid, p_stage bigint, p_kind text, p_tenant int, p_queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE millstream.stage SET state = 'running', started_at = now(), jobs_total = 1 WHERE id = p_stage;
  PERFORM millstream.persist(
    ARRAY[millstream.uuid_v7()], ARRAY[(SELECT id FROM millstream.queue WHERE name = p_queue)],
    ARRAY[(SELECT id FROM millstream.kind WHERE name = p_kind)], ARRAY[p_tenant], ARRAY[1::smallint],
    ARRAY[json_build_object('document_id', p_document)::text], ARRAY[NULL::smallint], ARRAY[NULL::timestamptz], NULL,
    ARRAY[NULL], ARRAY[NULL], ARRAY[p_stage], false);
END $$;

-- Ends a stage whose jobs have all ended: fails the document, starts the next stage, or completes the document.
CREATE FUNCTION millstream.finish_stage(p_stage millstream.stage, p_error text) RETURNS void LANGUAGE plpgsql AS $$
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

-- Fan-out: says how many jobs a stage has, in the transaction that inserts them. No jobs: the stage is over at once.
CREATE FUNCTION millstream.open_stage(p_document uuid, p_ordinal smallint, p_jobs int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  opened millstream.stage;
BEGIN
  UPDATE millstream.stage SET state = 'running', started_at = now(), jobs_total = p_jobs, total_items = p_jobs
  WHERE document_id = p_document AND ordinal = p_ordinal AND state = 'pending' RETURNING * INTO opened;
  IF opened.id IS NULL THEN
    RAISE EXCEPTION 'stage % of document % was opened before', p_ordinal, p_document;
  END IF;
  IF p_jobs = 0 THEN
    PERFORM millstream.finish_stage(opened, NULL);
  END IF;
  RETURN opened.id;
END $$;

-- Fan-in: counts every job of a stage that reaches a final state, in the transaction in which it does.
CREATE FUNCTION millstream.count_stage() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER job_stage AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (NEW.stage_id IS NOT NULL AND OLD.state <> NEW.state AND NEW.state IN (2, 7, 8))
  EXECUTE FUNCTION millstream.count_stage();

-- A dead job that gets another chance takes its stage, and the document that failed with it, back to running: it is
-- counted again when it ends. A stage that was completed in spite of it stays completed; the job then only mends its rows.
CREATE FUNCTION millstream.reopen_stage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  reopened uuid;
BEGIN
  UPDATE millstream.stage SET state = 'running', finished_at = NULL, jobs_finished = jobs_finished - 1, jobs_failed = jobs_failed - 1,
    failed_items = failed_items - CASE WHEN start_kind IS NULL THEN 1 ELSE 0 END
  WHERE id = NEW.stage_id AND state IN ('running', 'failed') RETURNING document_id INTO reopened;
  UPDATE millstream.document SET state = 'running', error = NULL, finished_at = NULL WHERE id = reopened AND state = 'failed';
  RETURN NULL;
END $$;
CREATE TRIGGER job_stage_again AFTER UPDATE ON millstream.job FOR EACH ROW
  WHEN (NEW.stage_id IS NOT NULL AND OLD.state = 8 AND NEW.state = 0)
  EXECUTE FUNCTION millstream.reopen_stage();

-- Live progress inside a stage of one job. A report of an earlier or frozen run can only repeat what is there.
CREATE FUNCTION millstream.report_stage(p_stage bigint, p_completed int, p_total int, p_item text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  told millstream.stage;
BEGIN
  UPDATE millstream.stage SET total_items = GREATEST(total_items, p_total),
    completed_items = GREATEST(completed_items, LEAST(p_completed, GREATEST(total_items, p_total))), current_item = p_item
  WHERE id = p_stage AND state = 'running' RETURNING * INTO told;
  IF told.id IS NOT NULL THEN
    PERFORM millstream.lift_progress(told);
  END IF;
END $$;

-- The door for documents whose bytes are in the object store already. Safe to repeat with the same id.
CREATE FUNCTION millstream.submit_document(p_id uuid, p_tenant int, p_name text, p_object_key text, p_bytes bigint, p_sha256 text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  first_stage bigint;
BEGIN
  INSERT INTO millstream.document (id, tenant_id, name, object_key, bytes, sha256)
  VALUES (p_id, p_tenant, p_name, p_object_key, p_bytes, p_sha256) ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  INSERT INTO millstream.stage (document_id, ordinal, name, start_kind, progress_from, progress_to, failure_share_max) VALUES
    (p_id, 1, 'extraction', 'document.extract', 0, 20, 0),
    (p_id, 2, 'images', NULL, 20, 40, 0.5),
    (p_id, 3, 'chunking', 'document.chunk', 40, 60, 0),
    (p_id, 4, 'analysis', NULL, 60, 90, 0.5),
    (p_id, 5, 'products', 'document.products', 90, 100, 0);
  SELECT id INTO first_stage FROM millstream.stage WHERE document_id = p_id AND ordinal = 1;
  PERFORM millstream.start_stage_job(p_id, first_stage, 'document.extract', p_tenant, 'documents');
END $$;
