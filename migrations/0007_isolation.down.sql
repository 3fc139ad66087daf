-- Back to the one function that takes leased jobs as well.
DROP FUNCTION millstream.rehand(uuid[], int[], int, timestamptz, int, boolean);
CREATE OR REPLACE FUNCTION millstream.rehand(p_ids uuid[], p_epochs int[], p_crash int, p_not_before timestamptz, p_crash_max int)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH lost AS (
    SELECT * FROM unnest(p_ids, p_epochs) AS u(id, epoch)
  ), again AS (
    UPDATE millstream.job j
    SET state = 0, epoch = j.epoch + 1, crash_count = j.crash_count + p_crash, worker_id = NULL, started_at = NULL
    FROM lost l
    WHERE j.id = l.id AND j.epoch = l.epoch AND j.state IN (0, 1) AND j.crash_count + p_crash < p_crash_max
    RETURNING j.id, j.epoch, j.queue_id, j.tenant_id, j.kind_id, j.priority
  ), unleased AS (
    DELETE FROM millstream.lease USING again WHERE lease.job_id = again.id
  ), numbered AS (
    SELECT a.*, (row_number() OVER (PARTITION BY queue_id, tenant_id, kind_id, priority ORDER BY id) - 1) / 500 AS part FROM again a
  ), parcels AS (
    INSERT INTO millstream.parcel (not_before, queue_id, tenant_id, kind_id, priority, chunk, jobs, epochs, ids)
    SELECT p_not_before, n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, count(*),
           array_agg(n.epoch ORDER BY n.id), array_agg(n.id ORDER BY n.id)
    FROM numbered n JOIN millstream.kind k ON k.id = n.kind_id
    GROUP BY n.queue_id, n.tenant_id, n.kind_id, n.priority, k.chunk, n.part
  )
  SELECT id FROM again;
END $$;

-- Rows of the newer class become what an older program knows.
UPDATE millstream.job_error SET class = 'retry' WHERE class = 'unavailable';
ALTER TABLE millstream.job_error DROP CONSTRAINT job_error_class_check;
ALTER TABLE millstream.job_error ADD CONSTRAINT job_error_class_check CHECK (class IN
  ('retry', 'permanent', 'rate_limited', 'timeout', 'panic', 'crash', 'cancelled', 'undecodable')) NOT VALID;
ALTER TABLE millstream.lease DROP COLUMN isolated;
