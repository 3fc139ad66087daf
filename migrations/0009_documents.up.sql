-- Documents and what the pipeline has found in them.

-- The kinds of the pipeline. The two that may call a server somewhere else try longer: it can be
-- down for a minute.
INSERT INTO millstream.kind (name, max_attempts) VALUES
  ('document.extract', 3), ('document.image', 3), ('document.chunk', 3),
  ('document.analyse', 6), ('document.embed', 6), ('document.products', 3);

CREATE TABLE millstream.document (
  id          uuid PRIMARY KEY,
  tenant_id   int NOT NULL REFERENCES millstream.tenant,
  name        text NOT NULL,
  object_key  text NOT NULL,
  bytes       bigint NOT NULL,
  sha256      text NOT NULL,
  state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'failed')),
  -- Per cent; never falls.
  progress    real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
  pages       int,
  title       text,
  error       text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
) WITH (fillfactor = 50);

-- Uploads under way. A row stands from before the first byte is stored until the transaction that
-- makes the document. A row that no process has touched for an hour names an object to remove.
CREATE TABLE millstream.upload (
  id        uuid PRIMARY KEY,           -- of the document to be
  store     text NOT NULL,              -- where the object is, as in objects.url
  folder    text NOT NULL,              -- everything below this key is of this upload
  seen_at   timestamptz NOT NULL DEFAULT now(),
  -- Its object is being removed: it can no longer become a document.
  abandoned boolean NOT NULL DEFAULT false
);

-- The five stages of a document, each a row whose counters are the live progress. The jobs of a
-- stage are a batch, which has the id of the stage.
CREATE TABLE millstream.stage (
  id                uuid PRIMARY KEY DEFAULT millstream.uuid_v7(),
  document_id       uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  ordinal           smallint NOT NULL,
  name              text NOT NULL,
  -- The one job that starts this stage. Null: the stage before fans out into it.
  start_kind        text,
  progress_from     real NOT NULL,
  progress_to       real NOT NULL,
  -- The document fails when a larger share of one kind of the stage's work has failed.
  failure_share_max real NOT NULL,
  state             text NOT NULL DEFAULT 'pending'
    CHECK (state IN ('pending', 'running', 'completed', 'failed')),
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
  -- Where the text comes from: the page's own text, OCR of its pictures, or nowhere.
  source      text NOT NULL DEFAULT 'text' CHECK (source IN ('text', 'ocr', 'none')),
  PRIMARY KEY (document_id, page)
);

CREATE TABLE millstream.image (
  document_id     uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  page            int NOT NULL,
  position        int NOT NULL,          -- of the image on its page
  -- A mask is a layer without colours of its own: the text of a scanned page, or the transparency
  -- of a picture. A page without usable text is read as one picture, with the role 'page'.
  role            text NOT NULL DEFAULT 'picture' CHECK (role IN ('picture', 'mask', 'page')),
  object_key      text NOT NULL,
  width           int NOT NULL,
  height          int NOT NULL,
  sha256          text,
  difference_hash bigint,                -- 64-bit dHash: near-duplicates differ in few bits
  ocr_text        text,
  ocr_confidence  real,
  processed_at    timestamptz,
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

-- Vectors of chunks and images. Where the pgvector extension can be had, the column is a `vector`,
-- else `real[]`. An inserted real[] is cast by assignment, so the statements are the same.
DO $$
DECLARE
  vector_type text := 'real[]';
BEGIN
  IF EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') THEN
    BEGIN
      CREATE EXTENSION IF NOT EXISTS vector;
      vector_type := 'vector';
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE 'pgvector is installed but this role may not create the extension; '
        'vectors are stored as real[]';
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

-- Remarks on a document: what was left out of it, and why. Each stands at most once at its place: a
-- repeated run writes the same ones.
CREATE TABLE millstream.document_note (
  document_id uuid NOT NULL REFERENCES millstream.document ON DELETE CASCADE,
  page        int,                       -- null: the document as a whole
  position    int,                       -- of the picture on its page; null: no picture
  chunk       int,                       -- null: no chunk
  code        text NOT NULL,             -- for programs and for counting
  message     text NOT NULL,             -- for people
  at          timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX document_note_place ON millstream.document_note
  (document_id, (COALESCE(page, 0)), (COALESCE(position, -1)), (COALESCE(chunk, -1)), code);
