DROP FUNCTION millstream.mark();
DROP TABLE millstream.installation;
