-- Names that jobs refer to by small numbers. A job row then costs 2 to 4 bytes per name instead of a text,
-- and an unknown name is refused at the door, because it has no number.
CREATE SCHEMA IF NOT EXISTS millstream;

-- One charset for every name that reaches a Redis key, a metric label or a log line.
CREATE DOMAIN millstream.name AS text CHECK (VALUE ~ '^[a-z0-9_.-]{1,64}$');

CREATE TABLE millstream.tenant (
  id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name       millstream.name NOT NULL UNIQUE,
  paused     boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
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
  id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         millstream.name NOT NULL UNIQUE,
  max_attempts smallint NOT NULL DEFAULT 3 CHECK (max_attempts BETWEEN 1 AND 1000),
  -- How many jobs of this kind one stream entry carries: about 20 ms of work, learned from the mean run time.
  -- A kind nobody has measured yet counts as slow.
  chunk        smallint NOT NULL DEFAULT 1 CHECK (chunk BETWEEN 1 AND 25),
  paused       boolean NOT NULL DEFAULT false,
  created_at   timestamptz NOT NULL DEFAULT now()
);
-- The kinds in the box. `noop` and `echo` are quick by construction; the others start as slow until measured.
INSERT INTO millstream.kind (name, chunk) VALUES ('noop', 25), ('echo', 25), ('sleep', 1), ('fail', 1), ('http', 1);
