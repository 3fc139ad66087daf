-- The role of a program that enqueues, by SQL or with a Rust `Producer`.
-- Whoever has it can enqueue any job for any tenant, and read all payloads.
GRANT USAGE ON SCHEMA millstream TO millstream_producer;
GRANT SELECT ON millstream._migrations, millstream.installation, millstream.closed
  TO millstream_producer;
GRANT SELECT ON millstream.queue, millstream.kind, millstream.tenant TO millstream_producer;
GRANT SELECT, INSERT ON millstream.job, millstream.parcel TO millstream_producer;
GRANT UPDATE (publishing_since) ON millstream.parcel TO millstream_producer;
-- Idempotency keys: one whose job is gone is replaced.
GRANT SELECT, INSERT, UPDATE, DELETE ON millstream.job_key TO millstream_producer;
-- Batches: jobs are added and counted, and a batch that was sealed without open jobs ends.
GRANT SELECT, INSERT, UPDATE ON millstream.batch, millstream.batch_work TO millstream_producer;
GRANT SELECT, INSERT, DELETE ON millstream.batch_change TO millstream_producer;
GRANT SELECT ON millstream.batch_failure, millstream.batch_view TO millstream_producer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA millstream TO millstream_producer;
-- These change days of jobs, with the rights of the owner.
REVOKE EXECUTE ON FUNCTION millstream.ensure_partitions(int), millstream.seal_day(date),
  millstream.unseal_day(date), millstream.drop_day(date, uuid[], text) FROM millstream_producer;
