DROP TABLE millstream.kind, millstream.queue, millstream.tenant;
DROP DOMAIN millstream.name;
