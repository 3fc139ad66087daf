-- What sets the keys of this database in Redis apart from those of any other that was given the same prefix on the same server: two databases
-- must never read each other's streams. Of the name too, so that a copy of this database beside it has a mark of its own; a backup that is
-- restored under the same name keeps it.
CREATE TABLE millstream.installation (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id  uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO millstream.installation DEFAULT VALUES;

-- Eight letters: enough for the few databases that ever share a Redis, and short, because every key carries them.
CREATE FUNCTION millstream.mark() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(encode(sha256(convert_to(id::text || '/' || current_database(), 'UTF8')), 'hex'), 8) FROM millstream.installation
$$;
