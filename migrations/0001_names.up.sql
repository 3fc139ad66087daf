-- Names that jobs refer to by small numbers, and what may not start now.
--
-- A job row costs 4 bytes per name instead of a text. An unknown name has no number, so every
-- door refuses it.
CREATE SCHEMA IF NOT EXISTS millstream;

-- One charset for every name that reaches a Redis key, a metric label or a log line.
CREATE DOMAIN millstream.name AS text CHECK (VALUE ~ '^[a-z0-9_.-]{1,64}$');

-- One row. Two databases may be given the same prefix on the same Redis server; its id keeps their
-- keys apart, so that neither reads the streams of the other.
CREATE TABLE millstream.installation (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id  uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO millstream.installation DEFAULT VALUES;

-- The part of every key that belongs to this database. It depends on the name too: a copy of this
-- database beside it has a mark of its own, and a backup restored under the same name keeps it.
-- Eight letters are enough for the few databases that share a Redis, and every key carries them.
CREATE FUNCTION millstream.mark() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(encode(sha256(convert_to(id::text || '/' || current_database(), 'UTF8')), 'hex'), 8)
  FROM millstream.installation
$$;

CREATE TABLE millstream.tenant (
  id               int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name             millstream.name NOT NULL UNIQUE,
  paused           boolean NOT NULL DEFAULT false,
  created_at       timestamptz NOT NULL DEFAULT now(),
  -- How many days finished jobs are kept after the day of their enqueueing. Null: as configured.
  keep_days        int CHECK (keep_days BETWEEN 1 AND 36500),
  keep_days_set_at timestamptz
);
INSERT INTO millstream.tenant (name) VALUES ('default');

CREATE TABLE millstream.queue (
  id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name       millstream.name NOT NULL UNIQUE,
  paused     boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO millstream.queue (name) VALUES ('default'), ('documents');

CREATE TABLE millstream.kind (
  id                 int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name               millstream.name NOT NULL UNIQUE,
  -- How often a job is tried: what the handlers of its kind say, unless a person has set it.
  max_attempts       smallint NOT NULL DEFAULT 3 CHECK (max_attempts BETWEEN 1 AND 1000),
  -- A person has set it (`kinds add --max-attempts`, `kinds set`). Registering workers leave it.
  max_attempts_fixed boolean NOT NULL DEFAULT false,
  -- How many jobs of this kind one stream entry carries: about 20 ms of work, learned from the mean
  -- run time. A kind that was never measured counts as slow.
  chunk              smallint NOT NULL DEFAULT 1 CHECK (chunk BETWEEN 1 AND 25),
  paused             boolean NOT NULL DEFAULT false,
  created_at         timestamptz NOT NULL DEFAULT now()
);
-- The kinds in the box. `noop` and `echo` are quick by construction; the others count as slow until
-- they are measured.
INSERT INTO millstream.kind (name, chunk)
VALUES ('noop', 25), ('echo', 25), ('sleep', 1), ('fail', 1), ('http', 1);

-- Few names are paused, if any, and there may be many tenants.
CREATE INDEX tenant_paused ON millstream.tenant (id) WHERE paused;
CREATE INDEX queue_paused ON millstream.queue (id) WHERE paused;
CREATE INDEX kind_paused ON millstream.kind (id) WHERE paused;

-- What may not start now: the one rule for all statements that hand out or take jobs. A job may not
-- go if its queue, its kind or its tenant is in here. The view has one row: a statement that joins
-- it makes each array once and compares every row with it.
CREATE VIEW millstream.closed AS SELECT
  ARRAY(SELECT id FROM millstream.queue WHERE paused) AS queues,
  ARRAY(SELECT id FROM millstream.kind WHERE paused) AS kinds,
  ARRAY(SELECT id FROM millstream.tenant WHERE paused) AS tenants;

-- A worker registers its kinds: new ones are added, the others follow their handlers.
CREATE FUNCTION millstream.register_kinds(p_names text[], p_max_attempts smallint[])
RETURNS void LANGUAGE sql AS $$
  INSERT INTO millstream.kind AS k (name, max_attempts)
  SELECT n, m FROM unnest(p_names, p_max_attempts) AS u(n, m)
  ORDER BY n                          -- one lock order for workers that start together
  ON CONFLICT (name) DO UPDATE SET max_attempts = EXCLUDED.max_attempts
    WHERE k.max_attempts <> EXCLUDED.max_attempts AND NOT k.max_attempts_fixed
$$;
