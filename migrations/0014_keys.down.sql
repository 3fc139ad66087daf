-- Back to keys that outlive their jobs.
DO $$
DECLARE
  f record;
  def text;
BEGIN
  FOR f IN SELECT oid, proname FROM pg_proc WHERE pronamespace = 'millstream'::regnamespace AND proname IN ('persist', 'persist_fresh', 'enqueue_many') LOOP
    def := pg_get_functiondef(f.oid);
    def := regexp_replace(def, '    DELETE FROM millstream\.job_key d USING .*?d\.job_id = l\.job_id;\n', '');
    def := regexp_replace(def, '  IF EXISTS \(SELECT 1 FROM unnest\(v_ids, idempotency_keys\) AS u\(i, k\).*?  END IF;\n', '');
    EXECUTE def;
  END LOOP;
END $$;
