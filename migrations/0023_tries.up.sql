-- How often a job is tried: what the handlers of its kind say, unless a person has said otherwise.

-- True once a person has set it (`kinds add --max-attempts`, `kinds set`): a worker that registers leaves it alone then.
ALTER TABLE millstream.kind ADD max_attempts_fixed boolean NOT NULL DEFAULT false;

-- What the handlers of this worker say, in the order of `kinds`. Null for programs that do not tell.
ALTER TABLE millstream.worker ADD max_attempts smallint[];

-- Registration by a worker: kinds that are new are added, the others follow their handlers.
CREATE FUNCTION millstream.register_kinds(p_names text[], p_max_attempts smallint[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO millstream.kind AS k (name, max_attempts)
  SELECT n, m FROM unnest(p_names, p_max_attempts) AS u(n, m)
  ORDER BY n                          -- one lock order for workers that start together
  ON CONFLICT (name) DO UPDATE SET max_attempts = EXCLUDED.max_attempts
    WHERE k.max_attempts <> EXCLUDED.max_attempts AND NOT k.max_attempts_fixed
$$;

-- The tries that live workers have for each kind, where they are not those of the kind.
CREATE VIEW millstream.tries_differ AS
  SELECT k.id AS kind_id, k.name::text AS kind, k.max_attempts, k.max_attempts_fixed, w.id AS worker_id, w.name AS worker, u.max_attempts AS worker_says
  FROM millstream.worker w
  CROSS JOIN LATERAL unnest(w.kinds, w.max_attempts) AS u(kind_id, max_attempts)
  JOIN millstream.kind k ON k.id = u.kind_id
  WHERE w.state IN ('active', 'paused') AND u.max_attempts <> k.max_attempts;
