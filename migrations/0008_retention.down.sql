-- Days that are sealed take jobs again.
DO $$
DECLARE
  sealed text;
BEGIN
  FOR sealed IN SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'job_sealed' LOOP
    EXECUTE format('DROP TRIGGER job_sealed ON %s', sealed);
  END LOOP;
END $$;
DROP FUNCTION millstream.drop_day, millstream.unseal_day, millstream.seal_day,
  millstream.refuse_sealed, millstream.rules, millstream.days;
DROP TABLE millstream.swept;
