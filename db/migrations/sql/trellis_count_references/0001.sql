-- Keeps stored_objects.reference_count; the argument of the trigger is the column that refers to an object.
CREATE OR REPLACE FUNCTION trellis_count_references() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  gone uuid; come uuid;
BEGIN
  IF TG_OP <> 'INSERT' THEN gone = (to_jsonb(OLD) ->> TG_ARGV[0])::uuid; END IF;
  IF TG_OP <> 'DELETE' THEN come = (to_jsonb(NEW) ->> TG_ARGV[0])::uuid; END IF;
  IF gone IS DISTINCT FROM come THEN
    UPDATE stored_objects SET reference_count = reference_count - 1 WHERE id = gone;
    UPDATE stored_objects SET reference_count = reference_count + 1 WHERE id = come;
  END IF;
  RETURN NULL;
END $$;
