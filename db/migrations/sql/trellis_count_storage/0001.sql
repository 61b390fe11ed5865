CREATE OR REPLACE FUNCTION trellis_count_storage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    UPDATE users SET storage_bytes = storage_bytes + NEW.size_bytes WHERE id = NEW.owner_id;
  ELSE
    UPDATE users SET storage_bytes = storage_bytes - OLD.size_bytes WHERE id = OLD.owner_id;
  END IF;
  RETURN NULL;
END $$;
