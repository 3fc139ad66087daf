DROP VIEW millstream.job_error_view, millstream.job_view;
DROP FUNCTION millstream.as_json(text);
DROP TABLE millstream.audit, millstream.dead_letter, millstream.job_log, millstream.job_error;
