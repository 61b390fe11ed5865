CREATE OR REPLACE FUNCTION trellis_guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status IN ('completed', 'failed', 'cancelled') THEN
    -- A purge empties an ended job: that changes exactly these columns, to exactly these values.
    OLD.parameters = '{}';
    OLD.error = CASE WHEN OLD.error IS NOT NULL THEN '{"code": "PURGED", "message": "This was purged.", "retryable": false, "traceback": null}'::jsonb END;
    OLD.current_step = NULL;
    OLD.retry_of_id = NULL;
    OLD.dataset_id = NULL;
    OLD.dataset_version_id = NULL;
    OLD.pipeline_id = NULL;
    OLD.snapshot_id = NULL;
    OLD.model_version_id = NULL;
    OLD.worker_id = NULL;
    OLD.updated_at = NEW.updated_at;
    IF NEW IS NOT DISTINCT FROM OLD THEN
      RETURN NEW;
    END IF;
    RAISE EXCEPTION 'job % is % and final', OLD.id, OLD.status USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
    ('pending', 'queued'),
    ('pending', 'running'),
    ('queued', 'running'),
    ('pending', 'cancelled'),
    ('queued', 'cancelled'),
    ('running', 'completed'),
    ('running', 'failed'),
    ('running', 'pending'),
    ('running', 'cancelling'),
    ('cancelling', 'cancelled')
  ) THEN
    RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'TR001';
  END IF;
  IF (OLD.status, NEW.status) IN (('pending', 'running'), ('queued', 'running')) THEN
    IF NEW.attempt <> OLD.attempt + 1 THEN
      RAISE EXCEPTION 'job %: a claim counts the attempt up by one', OLD.id USING ERRCODE = 'TR001';
    END IF;
  ELSIF NEW.attempt <> OLD.attempt THEN
    RAISE EXCEPTION 'job %: only a claim changes the attempt', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF OLD.status IN ('running', 'cancelling') AND NEW.status IN ('running', 'cancelling') AND NEW.worker_id IS DISTINCT FROM OLD.worker_id THEN
    RAISE EXCEPTION 'job %: an attempt stays with its worker', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND NEW.last_sequence <> OLD.last_sequence + 1 THEN
    RAISE EXCEPTION 'job %: a change of status takes the next event sequence', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.last_sequence NOT IN (OLD.last_sequence, OLD.last_sequence + 1) THEN
    RAISE EXCEPTION 'job %: events are numbered one by one', OLD.id USING ERRCODE = 'TR001';
  END IF;
  RETURN NEW;
END $$;
