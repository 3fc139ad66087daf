-- Rows of the newer class become what an older program knows.
UPDATE millstream.job_error SET class = 'retry' WHERE class = 'unavailable';
ALTER TABLE millstream.job_error DROP CONSTRAINT job_error_class_check;
ALTER TABLE millstream.job_error ADD CONSTRAINT job_error_class_check CHECK (class IN
  ('retry', 'permanent', 'rate_limited', 'timeout', 'panic', 'crash', 'cancelled', 'undecodable')) NOT VALID;
ALTER TABLE millstream.lease DROP COLUMN isolated;
