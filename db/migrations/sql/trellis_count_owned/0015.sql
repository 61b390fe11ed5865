CREATE OR REPLACE FUNCTION trellis_count_owned() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  counted record;
BEGIN
  -- Rows of a table without `deleted_at` are never marked as deleted; the statements that name it are not planned for them.
  IF TG_LEVEL = 'STATEMENT' THEN
    IF TG_ARGV[0] = 'deletable' THEN
      FOR counted IN SELECT owner_id, count(*) AS number FROM changed_rows WHERE deleted_at IS NULL GROUP BY owner_id LOOP
        PERFORM trellis_add_to_counter(counted.owner_id, TG_TABLE_NAME, CASE TG_OP WHEN 'INSERT' THEN counted.number ELSE -counted.number END);
      END LOOP;
    ELSE
      FOR counted IN SELECT owner_id, count(*) AS number FROM changed_rows GROUP BY owner_id LOOP
        PERFORM trellis_add_to_counter(counted.owner_id, TG_TABLE_NAME, CASE TG_OP WHEN 'INSERT' THEN counted.number ELSE -counted.number END);
      END LOOP;
    END IF;
  ELSIF TG_ARGV[0] = 'deletable' THEN
    IF OLD.deleted_at IS NULL THEN
      PERFORM trellis_add_to_counter(OLD.owner_id, TG_TABLE_NAME, -1);
    END IF;
    IF NEW.deleted_at IS NULL THEN
      PERFORM trellis_add_to_counter(NEW.owner_id, TG_TABLE_NAME, 1);
    END IF;
  ELSE
    PERFORM trellis_add_to_counter(OLD.owner_id, TG_TABLE_NAME, -1);
    PERFORM trellis_add_to_counter(NEW.owner_id, TG_TABLE_NAME, 1);
  END IF;
  RETURN NULL;
END $$;
