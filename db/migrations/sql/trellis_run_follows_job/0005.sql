CREATE OR REPLACE FUNCTION trellis_run_follows_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE runs SET started_at = coalesce(started_at, NEW.started_at), completed_at = NEW.completed_at, status = CASE NEW.status
    WHEN 'pending' THEN 'pending'
    WHEN 'queued' THEN 'pending'
    WHEN 'running' THEN 'running'
    WHEN 'cancelling' THEN 'running'
    WHEN 'completed' THEN 'completed'
    WHEN 'failed' THEN 'failed'
    WHEN 'cancelled' THEN 'cancelled'
    END
  WHERE job_id = NEW.id;
  RETURN NULL;
END $$;
