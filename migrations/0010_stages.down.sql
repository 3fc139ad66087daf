DROP TRIGGER document_batch ON millstream.batch;
DROP TRIGGER document_failure ON millstream.batch_failure;
DROP TRIGGER document_failure_again ON millstream.batch_failure;
DROP FUNCTION millstream.submit_upload, millstream.submit_document, millstream.report_stage,
  millstream.follow_batches, millstream.follow_batch, millstream.open_stage,
  millstream.reopen_stage, millstream.complete_stage, millstream.fail_stage, millstream.reason_of,
  millstream.forget_failure, millstream.note_failure, millstream.place_of, millstream.work_name,
  millstream.start_stage_job, millstream.start_stage, millstream.lift_progress;
