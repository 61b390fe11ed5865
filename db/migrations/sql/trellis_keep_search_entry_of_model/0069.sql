-- The trigger of the versions of models: their labels and descriptions are searched with their model.
CREATE OR REPLACE FUNCTION trellis_keep_search_entry_of_model() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed_id uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.model_id ELSE NEW.model_id END;
BEGIN
  -- Waits for whoever renames, deletes or restores it, or describes another version.
  PERFORM FROM models WHERE id = changed_id FOR NO KEY UPDATE;
  PERFORM trellis_refresh_search_entries('model', ARRAY[changed_id]);
  RETURN NULL;
END $$;
