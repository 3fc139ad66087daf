DROP TABLE millstream.job;
DROP FUNCTION millstream.refuse_update(), millstream.ensure_partitions(int), millstream.uuid_v7(),
  millstream.uuid_at(timestamptz);
