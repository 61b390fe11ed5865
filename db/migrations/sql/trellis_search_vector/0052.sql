-- The lexemes of an entry: A, the words of the title as they are; B, their stems; C, the words of the body but those that only join others; D, their stems.
-- In which language a text is nobody knows: it is stemmed in each.
CREATE OR REPLACE FUNCTION trellis_search_vector(title text, body text) RETURNS tsvector LANGUAGE sql STABLE AS $$
  SELECT setweight(to_tsvector('trellis_words', texts.title), 'A')
    || setweight(
      to_tsvector('trellis_english', texts.title) || to_tsvector('trellis_german', texts.title) || to_tsvector('trellis_french', texts.title)
      || to_tsvector('trellis_spanish', texts.title), 'B')
    || setweight(to_tsvector('trellis_content', texts.body), 'C')
    || setweight(
      to_tsvector('trellis_english', texts.body) || to_tsvector('trellis_german', texts.body) || to_tsvector('trellis_french', texts.body)
      || to_tsvector('trellis_spanish', texts.body), 'D')
  FROM (
    -- Words that are split are found as they are, too.
    SELECT plain.title || CASE WHEN split.title <> plain.title THEN ' ' || split.title ELSE '' END AS title,
      plain.body || CASE WHEN split.body <> plain.body THEN ' ' || split.body ELSE '' END AS body
    FROM (SELECT regexp_replace($1, '[[:punct:][:space:]]+', ' ', 'g') AS title, regexp_replace($2, '[[:punct:][:space:]]+', ' ', 'g') AS body OFFSET 0) plain,
      LATERAL (SELECT trellis_split_words(plain.title) AS title, trellis_split_words(plain.body) AS body OFFSET 0) split
    OFFSET 0) texts  -- else each text is made for each language
$$;
