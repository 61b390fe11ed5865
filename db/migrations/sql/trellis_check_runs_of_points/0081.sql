CREATE OR REPLACE FUNCTION trellis_check_runs_of_points() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(DISTINCT run_id) FROM added)
    <> (SELECT count(*) FROM (SELECT FROM runs WHERE id IN (SELECT run_id FROM added) FOR KEY SHARE) existing)
  THEN
    RAISE EXCEPTION 'insert on table "metric_points" violates foreign key constraint "fk_metric_points_run_id"'
      USING ERRCODE = 'foreign_key_violation', TABLE = 'metric_points', CONSTRAINT = 'fk_metric_points_run_id';
  END IF;
  RETURN NULL;
END $$;
