DROP FUNCTION millstream.register_kinds(text[], smallint[]), millstream.mark();
DROP VIEW millstream.closed;
DROP TABLE millstream.kind, millstream.queue, millstream.tenant, millstream.installation;
DROP DOMAIN millstream.name;
