-- The role of workers. They do the housekeeping too, so they write everywhere but in the
-- bookkeeping of migrations. Run it again after a migration that adds tables.
GRANT USAGE ON SCHEMA millstream TO millstream_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA millstream TO millstream_worker;
REVOKE INSERT, UPDATE, DELETE ON millstream._migrations FROM millstream_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA millstream TO millstream_worker;
