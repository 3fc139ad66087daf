DROP VIEW millstream.tries_differ;
DROP FUNCTION millstream.register_kinds(text[], smallint[]);
ALTER TABLE millstream.worker DROP max_attempts;
ALTER TABLE millstream.kind DROP max_attempts_fixed;
