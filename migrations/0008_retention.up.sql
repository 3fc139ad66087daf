-- Retention: a day's partition is dropped as a whole; what must stay is moved out first.

-- Days from which the jobs were deleted whose tenants keep them for so long. They are not looked at
-- again until such a rule is set anew. For 0 days: the day was dropped, and what hung on its jobs
-- (errors, log lines, keys) may still be there.
CREATE TABLE millstream.swept (
  day       date NOT NULL,
  keep_days int NOT NULL,
  at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (day, keep_days)
);

-- The days that have a partition of their own, oldest first, and the space they take.
CREATE FUNCTION millstream.days() RETURNS TABLE (day date, jobs_estimated bigint, bytes bigint)
LANGUAGE sql STABLE AS $$
  SELECT to_date(substr(c.relname, 5), 'YYYYMMDD'), greatest(c.reltuples, 0)::bigint,
         pg_total_relation_size(c.oid)
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'millstream.job'::regclass AND c.relname ~ '^job_\d{8}$' ORDER BY 1
$$;

-- All rules of tenants, for a comparison.
CREATE FUNCTION millstream.rules() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT md5(COALESCE(string_agg(id || ':' || keep_days, ',' ORDER BY id), ''))
  FROM millstream.tenant WHERE keep_days IS NOT NULL
$$;

CREATE FUNCTION millstream.refuse_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM millstream.job WHERE id = NEW.id) THEN
    RETURN NEW;   -- a repeated call finds its job
  END IF;
  RAISE EXCEPTION 'job %: its id is of a day whose jobs are being removed; '
    'enqueue it again in a moment, or with a new id', NEW.id
    USING ERRCODE = 'object_not_in_prerequisite_state';
END $$;

-- The three functions below run with the rights of the owner, like `ensure_partitions`. No role may
-- call them unless that right was granted to it, for a call can remove a day of jobs. They wait for
-- locks, and keep others waiting, for a fifth of a second at most.

-- From here on no job gets into that day's partition, so what must stay can be listed without a
-- lock.
CREATE FUNCTION millstream.seal_day(p_day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET lock_timeout = '200ms' SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER job_sealed BEFORE INSERT ON millstream.%I '
    'FOR EACH ROW EXECUTE FUNCTION millstream.refuse_sealed()',
    'job_' || to_char(p_day, 'YYYYMMDD'));
END $$;

CREATE FUNCTION millstream.unseal_day(p_day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET lock_timeout = '200ms' SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('DROP TRIGGER IF EXISTS job_sealed ON millstream.%I',
    'job_' || to_char(p_day, 'YYYYMMDD'));
END $$;

-- Drops a sealed day. The jobs in p_keep go to the default partition; returns how many those were.
-- p_rules: the rules by which they were chosen. If they have changed, nothing is done, and the
-- answer is null.
CREATE FUNCTION millstream.drop_day(p_day date, p_keep uuid[], p_rules text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET lock_timeout = '200ms' SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  part text := 'job_' || to_char(p_day, 'YYYYMMDD');
  columns text := (
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'millstream.job'::regclass AND attnum > 0 AND NOT attisdropped);
  moved bigint;
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_trigger
                 WHERE tgname = 'job_sealed' AND tgrelid = ('millstream.' || part)::regclass) THEN
    RAISE EXCEPTION 'partition % is not sealed', part;
  END IF;
  LOCK TABLE millstream.tenant IN SHARE MODE;
  IF millstream.rules() <> p_rules THEN
    RETURN NULL;
  END IF;
  EXECUTE format('ALTER TABLE millstream.job DETACH PARTITION millstream.%I', part);
  EXECUTE format('INSERT INTO millstream.job_default (%s) '
    'SELECT %s FROM millstream.%I WHERE id = ANY($1)', columns, columns, part) USING p_keep;
  GET DIAGNOSTICS moved = ROW_COUNT;
  EXECUTE format('DROP TABLE millstream.%I', part);
  DELETE FROM millstream.swept WHERE day = p_day;
  INSERT INTO millstream.swept (day, keep_days) VALUES (p_day, 0);
  RETURN moved;
END $$;
REVOKE EXECUTE ON FUNCTION millstream.seal_day(date), millstream.unseal_day(date),
  millstream.drop_day(date, uuid[], text) FROM PUBLIC;
