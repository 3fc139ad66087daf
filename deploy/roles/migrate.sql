-- The role of `millstream migrate`: it makes the schema, and owns it.
-- Run as an administrator of the database, once, before the first migration.
DO $$ BEGIN
  EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO millstream_migrate', current_database());
END $$;
