-- The steps that the nodes of a pipeline's definition run, each once.
CREATE OR REPLACE FUNCTION trellis_step_keys(definition jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(array_agg(DISTINCT node ->> 'step'), '{}')
  FROM jsonb_array_elements(CASE jsonb_typeof(definition -> 'nodes') WHEN 'array' THEN definition -> 'nodes' ELSE '[]' END) node
$$;
