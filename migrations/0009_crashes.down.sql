ALTER TABLE millstream.lease DROP COLUMN started;
ALTER TABLE millstream.job_error DROP COLUMN excused;
ALTER TABLE millstream.job_error DROP COLUMN ran_ms;
