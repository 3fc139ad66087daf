DROP VIEW millstream.tries_differ;
DROP FUNCTION millstream.has_rested(timestamptz), millstream.served_kinds(int);
DROP TABLE millstream.queue_stat, millstream.leader, millstream.lease, millstream.worker_beat,
  millstream.worker, millstream.parcel;
