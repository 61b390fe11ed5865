CREATE OR REPLACE FUNCTION trellis_delete_points_of_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM metric_points WHERE run_id IN (SELECT id FROM deleted);
  RETURN NULL;
END $$;
