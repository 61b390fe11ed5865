-- Refuses the statement that fires it; the argument of the trigger is the reason.
CREATE OR REPLACE FUNCTION trellis_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% of % is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'TR002';
END $$;
