DROP FUNCTION
  millstream.enqueue(varchar, json, text, text, timestamptz, text, text, jsonb, int, uuid),
  millstream.enqueue_many(varchar, json[], text, text, timestamptz, text[], text, jsonb, int, uuid),
  millstream.enqueue(text, jsonb, text, text, timestamptz, text, text, jsonb, int, uuid),
  millstream.enqueue_many(text, jsonb[], text, text, timestamptz, text[], text, jsonb, int, uuid),
  millstream.json_text, millstream.json_fault, millstream.persist_fresh, millstream.persist;
DROP TABLE millstream.sql_enqueued, millstream.job_key;
