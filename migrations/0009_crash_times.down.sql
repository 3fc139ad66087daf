ALTER TABLE millstream.job_error DROP COLUMN ran_ms;
