CREATE OR REPLACE FUNCTION trellis_mark_taggings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  marked uuid[];
BEGIN
  EXECUTE format('SELECT array_agg(id) FROM taggings WHERE %I = $1', TG_ARGV[0]) INTO marked USING NEW.id;
  IF TG_TABLE_NAME = 'experiments' THEN
    -- A run that is deleted itself has no part in what becomes of its experiment.
    marked := marked || ARRAY(
      SELECT t.id FROM taggings t JOIN runs r ON r.id = t.run_id WHERE r.experiment_id = NEW.id AND r.deleted_at IS NULL);
  END IF;
  -- Tags are locked before their taggings and in the order of their ids, as by whoever deletes a tag.
  PERFORM FROM tags WHERE id IN (SELECT tag_id FROM taggings WHERE id = ANY (marked)) ORDER BY id FOR NO KEY UPDATE;
  UPDATE taggings SET is_live = NEW.deleted_at IS NULL WHERE id = ANY (marked);
  RETURN NULL;
END $$;
