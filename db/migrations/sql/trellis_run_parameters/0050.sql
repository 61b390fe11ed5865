CREATE OR REPLACE FUNCTION trellis_run_parameters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    DELETE FROM run_parameters WHERE run_id = NEW.id;
  END IF;
  INSERT INTO run_parameters (run_id, key, number, text) SELECT NEW.id, l.key, l.number, l.text FROM trellis_json_leaves(NEW.hyperparameters) l;
  RETURN NULL;
END $$;
