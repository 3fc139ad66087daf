-- Uploads under way, and pages that are read as pictures.

-- A row stands from before the first byte of an upload is stored until the transaction that makes the document. One that nobody has
-- touched for an hour tells which object to remove.
CREATE TABLE millstream.upload (
  id         uuid PRIMARY KEY,           -- of the document to be
  store      text NOT NULL,              -- where the object is, as in objects.url
  folder     text NOT NULL,              -- everything below this key is of this upload
  seen_at    timestamptz NOT NULL DEFAULT now(),
  abandoned  boolean NOT NULL DEFAULT false   -- its object is being removed: it can no longer become a document
);

-- Makes a document of an upload. False: the upload was given up meanwhile, and its object is gone or will be. An upload whose document
-- is there already is a repetition, and harmless.
CREATE FUNCTION millstream.submit_upload(p_id uuid, p_tenant int, p_name text, p_object_key text, p_bytes bigint, p_sha256 text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM millstream.upload WHERE id = p_id AND NOT abandoned;
  IF NOT FOUND THEN
    RETURN EXISTS (SELECT 1 FROM millstream.document WHERE id = p_id);
  END IF;
  PERFORM millstream.submit_document(p_id, p_tenant, p_name, p_object_key, p_bytes, p_sha256);
  RETURN true;
END $$;

-- A page without usable text is read as one picture.
ALTER TABLE millstream.image DROP CONSTRAINT image_role_check;
ALTER TABLE millstream.image ADD CONSTRAINT image_role_check CHECK (role IN ('picture', 'mask', 'page'));
