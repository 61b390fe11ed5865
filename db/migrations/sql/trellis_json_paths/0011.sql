-- The paths of a document's objects: {"a": {"b": [1]}} has a and a.b. Paths do not lead into arrays.
CREATE OR REPLACE FUNCTION trellis_json_paths(document jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  WITH RECURSIVE entries(path, value) AS (
    SELECT key, value FROM jsonb_each(CASE jsonb_typeof(document) WHEN 'object' THEN document ELSE '{}' END)
    UNION ALL
    SELECT entries.path || '.' || inner_entries.key, inner_entries.value
    FROM entries, jsonb_each(CASE jsonb_typeof(entries.value) WHEN 'object' THEN entries.value ELSE '{}' END) inner_entries
  )
  SELECT coalesce(array_agg(path), '{}') FROM entries
$$;
