DROP VIEW millstream.job_view;
DROP FUNCTION millstream.as_json(text),
  millstream.enqueue(text, jsonb, text, text, timestamptz, text, text, jsonb, int),
  millstream.enqueue_many(text, jsonb[], text, text, timestamptz, text[], text, jsonb, int),
  millstream.rehand(uuid[], int[], int, timestamptz, int),
  millstream.persist(uuid[], int[], int[], int[], smallint[], text[], smallint[], timestamptz[], text[], text[], text[], bigint[], boolean);
