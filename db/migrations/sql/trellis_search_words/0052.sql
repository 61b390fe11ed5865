-- The words of a title or a query in lower case and without accents, for comparing them letter by letter.
CREATE OR REPLACE FUNCTION trellis_search_words(title text) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT btrim(lower(unaccent(trellis_split_words(regexp_replace(title, '[[:punct:][:space:]]+', ' ', 'g')))))
$$;
