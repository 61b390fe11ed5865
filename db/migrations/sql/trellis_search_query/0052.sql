-- The query of a text in the syntax of websearch_to_tsquery, in any of the languages. `prefix` is the last word if it may be the beginning of one, and `head` what
-- stands before it. What several languages make of it stands there once: the planner takes alternatives for independent, and would think each word frequent.
CREATE OR REPLACE FUNCTION trellis_search_query(query text, head text, prefix text) RETURNS tsquery LANGUAGE sql STABLE AS $$
  SELECT coalesce(string_agg(DISTINCT '(' || alternative::text || ')', ' | ')::tsquery, '')
  FROM (
    SELECT unnest(ARRAY[
      websearch_to_tsquery('trellis_english', query), websearch_to_tsquery('trellis_german', query), websearch_to_tsquery('trellis_french', query),
      websearch_to_tsquery('trellis_spanish', query), CASE WHEN prefix = '' THEN websearch_to_tsquery('trellis_words', query) END]) AS alternative
    UNION ALL
    SELECT heads && to_tsquery('trellis_words', CASE prefix WHEN '' THEN '' ELSE quote_literal(prefix) || ':*' END)
    FROM unnest(ARRAY[
      websearch_to_tsquery('trellis_english', head), websearch_to_tsquery('trellis_german', head), websearch_to_tsquery('trellis_french', head),
      websearch_to_tsquery('trellis_spanish', head), websearch_to_tsquery('trellis_words', head)]) heads
    WHERE prefix <> '') alternatives
  WHERE numnode(alternative) > 0
$$;
