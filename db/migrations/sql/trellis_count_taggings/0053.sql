CREATE OR REPLACE FUNCTION trellis_count_taggings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  counted record;
BEGIN
  -- Tags are locked in the order of their ids, so that no two transactions wait for each other.
  IF TG_OP = 'UPDATE' THEN
    FOR counted IN
      SELECT n.tag_id, sum(n.is_live::int - o.is_live::int) AS number FROM changed_rows n JOIN old_rows o ON o.id = n.id
      GROUP BY n.tag_id HAVING sum(n.is_live::int - o.is_live::int) <> 0 ORDER BY n.tag_id
    LOOP
      UPDATE tags SET usage_count = usage_count + counted.number WHERE id = counted.tag_id;
    END LOOP;
  ELSE
    FOR counted IN SELECT tag_id, count(*) AS number FROM changed_rows WHERE is_live GROUP BY tag_id ORDER BY tag_id LOOP
      UPDATE tags SET usage_count = usage_count + CASE TG_OP WHEN 'INSERT' THEN counted.number ELSE -counted.number END
      WHERE id = counted.tag_id;
    END LOOP;
  END IF;
  RETURN NULL;
END $$;
