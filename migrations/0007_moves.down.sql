DROP FUNCTION millstream.bury(uuid[], int[], text, text), millstream.retry_now(uuid[], text),
  millstream.cancel(uuid[], text), millstream.release_due(int), millstream.unlist(uuid[], int[]),
  millstream.rehand(uuid[], int[], int, timestamptz, int, boolean);
