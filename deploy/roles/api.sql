-- The role of the API and of people at the command line: it enqueues, moves, pauses and adds.
-- It is no worker: it cannot register one, beat, lead, or write what handlers produce.
GRANT USAGE ON SCHEMA millstream TO millstream_api;
GRANT SELECT ON ALL TABLES IN SCHEMA millstream TO millstream_api;
GRANT INSERT, UPDATE, DELETE ON
  millstream.job, millstream.job_key, millstream.parcel, millstream.dead_letter,
  millstream.job_error, millstream.job_log, millstream.queue, millstream.kind, millstream.tenant,
  millstream.document, millstream.document_note, millstream.stage, millstream.upload,
  millstream.batch, millstream.batch_work, millstream.batch_change, millstream.batch_failure
  TO millstream_api;
-- A cancelled job loses its lease. What was done stays in the audit log.
GRANT DELETE ON millstream.lease TO millstream_api;
GRANT INSERT ON millstream.audit TO millstream_api;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA millstream TO millstream_api;
REVOKE EXECUTE ON FUNCTION millstream.ensure_partitions(int), millstream.seal_day(date),
  millstream.unseal_day(date), millstream.drop_day(date, uuid[], text) FROM millstream_api;
