CREATE OR REPLACE FUNCTION trellis_add_to_counter(owner uuid, counted text, change bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  part uuid;
BEGIN
  -- Two statements: as a subquery of the UPDATE, the SELECT could run more than once and lock several parts.
  SELECT id INTO part FROM user_counters WHERE owner_id = owner AND kind = counted LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE user_counters SET value = value + change WHERE id = part;
  ELSE
    INSERT INTO user_counters (owner_id, kind, value) VALUES (owner, counted, change);
  END IF;
END $$;
