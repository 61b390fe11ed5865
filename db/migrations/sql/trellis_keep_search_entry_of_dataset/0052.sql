-- The trigger of versions: the columns of the newest READY one are searched with its dataset.
CREATE OR REPLACE FUNCTION trellis_keep_search_entry_of_dataset() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed_id uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.dataset_id ELSE NEW.dataset_id END;
BEGIN
  -- Waits for whoever renames, deletes or restores it, or makes another version READY.
  PERFORM FROM datasets WHERE id = changed_id FOR NO KEY UPDATE;
  PERFORM trellis_refresh_search_entries('dataset', ARRAY[changed_id]);
  RETURN NULL;
END $$;
