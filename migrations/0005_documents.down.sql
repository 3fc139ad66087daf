DROP TRIGGER job_stage ON millstream.job;
DROP TRIGGER job_stage_again ON millstream.job;
DROP FUNCTION millstream.submit_document(uuid, int, text, text, bigint, text), millstream.report_stage(bigint, int, int, text),
  millstream.count_stage(), millstream.reopen_stage(), millstream.open_stage(uuid, smallint, int), millstream.finish_stage(millstream.stage, text),
  millstream.start_stage_job(uuid, bigint, text, int, text), millstream.lift_progress(millstream.stage);
DROP TABLE millstream.embedding, millstream.product, millstream.chunk_analysis, millstream.chunk, millstream.image,
  millstream.page, millstream.stage, millstream.document;
DELETE FROM millstream.kind WHERE name LIKE 'document.%';
