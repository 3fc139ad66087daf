-- The role of reports and dashboards: it reads, payloads included, and changes nothing.
GRANT USAGE ON SCHEMA millstream TO millstream_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA millstream TO millstream_reader;
-- By default every role that may use the schema may enqueue. From here on only those of the other
-- scripts may: applications that enqueue by SQL need producer.sql.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA millstream FROM PUBLIC;
-- What the views are made of.
GRANT EXECUTE ON FUNCTION millstream.as_json(text), millstream.uuid_at(timestamptz),
  millstream.days(), millstream.mark()
  TO millstream_reader;
