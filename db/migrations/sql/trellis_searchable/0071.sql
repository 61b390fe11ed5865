-- What the search finds: what has to be in search_entries. A type of thing is one SELECT here and its triggers.
CREATE OR REPLACE FUNCTION trellis_searchable() RETURNS TABLE (type text, id uuid, owner_id uuid, title text, body text) LANGUAGE sql STABLE AS $$
  SELECT 'dataset', d.id, d.owner_id, d.name, concat_ws(E'\n', nullif(d.description, ''), newest.names)
  FROM datasets d LEFT JOIN LATERAL (
    SELECT (
      SELECT left(string_agg(c ->> 'name', ', '), 10000)
      FROM jsonb_array_elements(CASE jsonb_typeof(v.columns) WHEN 'array' THEN v.columns ELSE '[]' END) c) AS names
    FROM dataset_versions v WHERE v.dataset_id = d.id AND v.status = 'ready' AND v.deleted_at IS NULL ORDER BY v.number DESC LIMIT 1) newest ON true
  WHERE d.deleted_at IS NULL
  UNION ALL
  -- The templates that ship belong to the one SYSTEM account, and are listed by their tasks alone.
  SELECT 'pipeline', p.id, p.owner_id, p.name, coalesce(p.description, '') FROM pipelines p
  WHERE p.deleted_at IS NULL AND p.owner_id <> '00000000-0000-7000-8000-000000000001'
  UNION ALL
  SELECT 'experiment', e.id, e.owner_id, e.name, concat_ws(E'\n', nullif(e.description, ''), e.notes) FROM experiments e WHERE e.deleted_at IS NULL
  UNION ALL
  -- Of the millions of runs, those that somebody described.
  SELECT 'run', r.id, r.owner_id, coalesce(nullif(r.name, ''), 'Run ' || r.number), coalesce(r.notes, '')
  FROM runs r JOIN experiments e ON e.id = r.experiment_id
  WHERE e.deleted_at IS NULL AND r.deleted_at IS NULL AND (r.name <> '' OR r.notes <> '')
  UNION ALL
  SELECT 'model', m.id, m.owner_id, m.name, concat_ws(E'\n', nullif(m.description, ''), described.texts)
  FROM models m LEFT JOIN LATERAL (
    SELECT left(string_agg(concat_ws(E'\n', nullif(v.label, ''), nullif(v.description, '')), E'\n' ORDER BY v.number DESC), 10000) AS texts
    FROM (
      SELECT v.number, v.label, v.description FROM model_versions v
      WHERE v.model_id = m.id AND v.deleted_at IS NULL AND (v.label <> '' OR v.description <> '') ORDER BY v.number DESC LIMIT 100) v) described ON true
  WHERE m.deleted_at IS NULL
  UNION ALL
  SELECT 'study', s.id, s.owner_id, s.name, concat_ws(E'\n', s.metric, left(searched.keys, 10000))
  FROM studies s CROSS JOIN LATERAL (
    SELECT string_agg(concat_ws('.', p ->> 'node', p ->> 'name'), ', ' ORDER BY position) AS keys
    FROM jsonb_array_elements(s.space) WITH ORDINALITY p(p, position)) searched
  WHERE s.deleted_at IS NULL
$$;
