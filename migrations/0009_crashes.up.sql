-- What a crash is judged by. Constants and nulls by default: no rewrite, no long lock; older programs leave them so.

-- How long the job had run when its worker died, at most; and whether that death was nobody's fault.
ALTER TABLE millstream.job_error ADD COLUMN ran_ms int;
ALTER TABLE millstream.job_error ADD COLUMN excused boolean NOT NULL DEFAULT false;

-- A job that was there at a crash before says here that it starts: at the next crash only those that had started are counted.
ALTER TABLE millstream.lease ADD COLUMN started boolean NOT NULL DEFAULT false;
