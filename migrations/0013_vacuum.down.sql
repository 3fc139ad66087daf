-- As the database does by itself.
ALTER TABLE millstream.parcel RESET (autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE millstream.lease RESET (autovacuum_vacuum_cost_delay);
ALTER TABLE millstream.worker_beat RESET (autovacuum_vacuum_cost_delay);
ALTER TABLE millstream.job_default RESET (autovacuum_vacuum_scale_factor);
