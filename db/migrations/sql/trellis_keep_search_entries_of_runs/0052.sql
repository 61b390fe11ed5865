-- The trigger of an experiment that was deleted or restored: its runs are found while it is.
CREATE OR REPLACE FUNCTION trellis_keep_search_entries_of_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM trellis_refresh_search_entries('run', ARRAY(SELECT id FROM runs WHERE experiment_id = NEW.id AND (name <> '' OR notes <> '')));
  RETURN NULL;
END $$;
