-- Make the entries of some rows what trellis_searchable() says. The caller has locked the rows that the entries are made of: each statement then sees what those who had
-- locked them before have committed.
CREATE OR REPLACE FUNCTION trellis_refresh_search_entries(wanted_type text, wanted_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  wanted_id uuid;
  source record;
BEGIN
  FOREACH wanted_id IN ARRAY wanted_ids LOOP
    SELECT s.owner_id, s.title, s.body INTO source FROM trellis_searchable() s WHERE s.type = wanted_type AND s.id = wanted_id;
    IF NOT FOUND THEN
      DELETE FROM search_entries WHERE id = wanted_id;
    ELSIF NOT EXISTS (SELECT FROM search_entries WHERE id = wanted_id) THEN
      INSERT INTO search_entries (type, id, owner_id, title, body, words, vector)
      VALUES (wanted_type, wanted_id, source.owner_id, source.title, source.body,
        trellis_search_words(source.title), trellis_search_vector(source.title, source.body));
    ELSE
      UPDATE search_entries SET owner_id = source.owner_id, title = source.title, body = source.body,
        words = trellis_search_words(source.title), vector = trellis_search_vector(source.title, source.body)
      WHERE id = wanted_id AND (owner_id, title, body) IS DISTINCT FROM (source.owner_id, source.title, source.body);
    END IF;
  END LOOP;
END $$;
