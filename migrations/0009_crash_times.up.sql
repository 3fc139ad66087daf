-- How long a job had run when its worker died, at most: a suspect is watched for longer than that.
-- Null by default: no rewrite, no long lock; older programs leave it so.
ALTER TABLE millstream.job_error ADD COLUMN ran_ms int;
