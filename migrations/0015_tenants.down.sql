-- As counted.
ALTER TABLE millstream.parcel ALTER tenant_id RESET (n_distinct);
