-- The trigger of a table whose rows are of the type TG_ARGV[0].
CREATE OR REPLACE FUNCTION trellis_keep_search_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    DELETE FROM search_entries WHERE id = OLD.id;
  ELSE
    IF TG_ARGV[0] = 'run' THEN  -- waits for whoever deletes or restores its experiment
      PERFORM FROM experiments WHERE id = NEW.experiment_id FOR SHARE;
    END IF;
    PERFORM trellis_refresh_search_entries(TG_ARGV[0], ARRAY[NEW.id]);
  END IF;
  RETURN NULL;
END $$;
