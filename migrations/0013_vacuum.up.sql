-- Small tables whose rows come and go all day are vacuumed by the number of dead rows, not by the share: dispatch looks for the oldest
-- waiting parcel through an index, past every dead entry that is still in it.
ALTER TABLE millstream.parcel SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE millstream.lease SET (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE millstream.worker_beat SET (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE millstream.job_default SET (autovacuum_vacuum_scale_factor = 0.05);
