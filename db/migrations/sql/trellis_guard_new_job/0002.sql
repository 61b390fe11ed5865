CREATE OR REPLACE FUNCTION trellis_guard_new_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.status, NEW.attempt, NEW.last_sequence) IS DISTINCT FROM ('pending', 0, 1) THEN
    RAISE EXCEPTION 'job %: a job begins as pending, without an attempt and with its first event', NEW.id USING ERRCODE = 'TR001';
  END IF;
  RETURN NEW;
END $$;
