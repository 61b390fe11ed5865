-- The values in a document's objects that are no objects, each under its path: {"a": {"b": [1]}} has a.b. Of equal paths, that through objects.
-- Numbers as float8 has them; of all else but null the text. Paths beyond 200 characters, which no filter can name, and the rest of long texts are left out.
CREATE OR REPLACE FUNCTION trellis_json_leaves(document jsonb) RETURNS TABLE (key text, number float8, text text)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  WITH RECURSIVE entries(path, value, depth) AS (
    SELECT d.key, d.value, 1 FROM jsonb_each(CASE jsonb_typeof(document) WHEN 'object' THEN document ELSE '{}' END) d
    UNION ALL
    SELECT entries.path || '.' || i.key, i.value, depth + 1
    FROM entries, jsonb_each(CASE jsonb_typeof(entries.value) WHEN 'object' THEN entries.value ELSE '{}' END) i
  ), leaves AS (
    SELECT path, depth, jsonb_typeof(value) AS type, value #>> '{}' AS content FROM entries WHERE jsonb_typeof(value) <> 'object' AND length(path) <= 200
  )
  SELECT DISTINCT ON (path) path,
    CASE WHEN type <> 'number' THEN NULL WHEN abs(content::numeric) > 1e300 THEN NULL WHEN abs(content::numeric) < 1e-300 THEN 0
      ELSE content::numeric::float8 END,
    CASE WHEN type <> 'number' THEN left(content, 1000) END
  FROM leaves ORDER BY path, depth DESC
$$;
