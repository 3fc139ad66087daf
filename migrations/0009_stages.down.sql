DROP TRIGGER job_stage ON millstream.job;
DROP TRIGGER job_stage_again ON millstream.job;
DROP FUNCTION millstream.submit_upload, millstream.submit_document, millstream.report_stage,
  millstream.reopen_stage, millstream.count_stage, millstream.open_stage, millstream.finish_stage,
  millstream.forget_failure, millstream.note_failure, millstream.work_of,
  millstream.start_stage_job, millstream.lift_progress;
