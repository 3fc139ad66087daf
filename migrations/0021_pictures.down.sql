DELETE FROM millstream.image WHERE role = 'page';
ALTER TABLE millstream.image DROP CONSTRAINT image_role_check;
ALTER TABLE millstream.image ADD CONSTRAINT image_role_check CHECK (role IN ('picture', 'mask'));
DROP FUNCTION millstream.submit_upload(uuid, int, text, text, bigint, text);
DROP TABLE millstream.upload;
