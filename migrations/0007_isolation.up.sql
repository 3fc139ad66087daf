-- A job that was in hand at two crashes runs its next attempt alone, and only then can it be held responsible.
-- The default is a constant: no rewrite, no long lock.
ALTER TABLE millstream.lease ADD COLUMN isolated boolean NOT NULL DEFAULT false;

-- A server that cannot be reached is nobody's fault but its own: the error history has a class for it.
ALTER TABLE millstream.job_error DROP CONSTRAINT job_error_class_check;
ALTER TABLE millstream.job_error ADD CONSTRAINT job_error_class_check CHECK (class IN
  ('retry', 'permanent', 'rate_limited', 'timeout', 'panic', 'crash', 'cancelled', 'undecodable', 'unavailable')) NOT VALID;
