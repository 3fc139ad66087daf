DROP VIEW millstream.batch_view;
DROP FUNCTION millstream.open_batch, millstream.seal_batch, millstream.close_batch,
  millstream.persist_in_batches, millstream.note_added, millstream.admit_to_batches,
  millstream.count_back, millstream.count_failed, millstream.count_completed,
  millstream.count_noted, millstream.count_in_batches, millstream.lock_batches,
  millstream.end_batches, millstream.start_next, millstream.has_failed, millstream.fold_changes,
  millstream.work_of;
DROP TABLE millstream.batch_failure, millstream.batch_change, millstream.batch_work;
DROP INDEX millstream.job_batch;
DROP TABLE millstream.batch;
