-- One way to persist, and lists of ids that are compressed.
DROP FUNCTION millstream.persist_fresh;
ALTER TABLE millstream.parcel ALTER ids SET STORAGE EXTENDED;
