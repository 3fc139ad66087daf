-- "Jobs since 1900" are all jobs. The smallest UUIDv7 of a moment outside the range of UUIDs (48 bits of milliseconds since 1970) is
-- the smallest or the largest one: the digits of a negative number were those of an id in the far future.
CREATE OR REPLACE FUNCTION millstream.uuid_at(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex(LEAST(GREATEST(extract(epoch FROM moment) * 1000, 0), 281474976710655)::bigint), 12, '0')
          || '00000000000000000000')::uuid
$$;
