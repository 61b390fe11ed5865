-- Job outputs refer to rows of many tables, so no foreign key guards them: each of these tables has this trigger AFTER DELETE instead.
-- Arguments: the kind of output that the table holds, and what a delete does as a foreign key would: 'cascade' or 'restrict'.
CREATE OR REPLACE FUNCTION trellis_guard_output() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_ARGV[1] = 'cascade' THEN
    DELETE FROM job_outputs WHERE kind = TG_ARGV[0] AND target_id = OLD.id;
  ELSIF EXISTS (SELECT FROM job_outputs WHERE kind = TG_ARGV[0] AND target_id = OLD.id) THEN
    RAISE EXCEPTION '% % is an output of a job', TG_ARGV[0], OLD.id USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME;
  END IF;
  RETURN NULL;
END $$;
