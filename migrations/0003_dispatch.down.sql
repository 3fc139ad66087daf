DROP TABLE millstream.config, millstream.schedule, millstream.queue_stat, millstream.leader, millstream.job_key,
  millstream.dead_letter, millstream.job_log, millstream.job_error, millstream.lease, millstream.worker_beat,
  millstream.worker, millstream.parcel;
