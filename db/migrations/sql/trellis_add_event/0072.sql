-- Adds the event of a changed row to the outbox. Conditions on the change are those of the triggers. The trials of a study are told by the study.
CREATE OR REPLACE FUNCTION trellis_add_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  parent record;
  job record;
  event outbox_events%ROWTYPE;
BEGIN
  event.data := '{}';
  CASE TG_TABLE_NAME
  WHEN 'jobs' THEN
    event.type := 'job_' || NEW.status;
    event.account_id := NEW.owner_id;
    event.maker_id := NEW.created_by_id;
    event.subject_id := 'job_' || replace(NEW.id::text, '-', '');
    event.name := coalesce((SELECT name FROM pipelines WHERE id = NEW.pipeline_id), (SELECT name FROM datasets WHERE id = NEW.dataset_id));
    event.data := jsonb_build_object('kind', NEW.kind);
    IF NEW.kind IN ('export', 'export_list') AND NEW.status <> 'cancelled' THEN
      INSERT INTO outbox_events (type, account_id, maker_id, subject_id, name)
      SELECT CASE NEW.status WHEN 'completed' THEN 'export_ready' ELSE 'export_failed' END, owner_id, coalesce(created_by_id, NEW.created_by_id),
        'export_' || replace(id::text, '-', ''), event.name
      FROM exports WHERE job_id = NEW.id;
    END IF;
  WHEN 'dataset_versions' THEN
    SELECT owner_id, name, created_by_id INTO parent FROM datasets WHERE id = NEW.dataset_id;
    event.type := 'version_' || NEW.status;
    event.account_id := parent.owner_id;
    event.maker_id := coalesce(
      (SELECT created_by_id FROM jobs WHERE id = NEW.produced_by_id), (SELECT created_by_id FROM uploads WHERE version_id = NEW.id), parent.created_by_id);
    event.subject_id := 'version_' || replace(NEW.id::text, '-', '');
    event.name := parent.name;
    event.data := jsonb_build_object('number', NEW.number);
  WHEN 'schema_proposals' THEN
    SELECT owner_id, name, created_by_id INTO parent FROM datasets WHERE id = NEW.dataset_id;
    event.type := 'schema_proposed';
    event.account_id := parent.owner_id;
    event.maker_id := coalesce((SELECT created_by_id FROM jobs WHERE id = NEW.job_id), parent.created_by_id);
    event.subject_id := 'proposal_' || replace(NEW.id::text, '-', '');
    event.name := parent.name;
  WHEN 'model_versions' THEN
    SELECT kind, created_by_id INTO job FROM jobs WHERE id = NEW.job_id;
    IF job.kind = 'trial' THEN
      RETURN NULL;
    END IF;
    SELECT owner_id, name, created_by_id INTO parent FROM models WHERE id = NEW.model_id;
    event.type := 'model_version_created';
    event.account_id := parent.owner_id;
    event.maker_id := coalesce(job.created_by_id, parent.created_by_id);
    event.subject_id := 'mversion_' || replace(NEW.id::text, '-', '');
    event.name := parent.name;
    event.data := jsonb_build_object('number', NEW.number);
  WHEN 'model_alias_events' THEN
    SELECT owner_id, name, created_by_id INTO parent FROM models WHERE id = NEW.model_id;
    event.type := 'alias_changed';
    event.account_id := parent.owner_id;
    event.maker_id := coalesce(parent.created_by_id, NEW.set_by_id);
    event.subject_id := 'model_' || replace(NEW.model_id::text, '-', '');
    event.name := parent.name;
    event.data := jsonb_build_object('alias', NEW.name, 'number', (SELECT number FROM model_versions WHERE id = NEW.model_version_id));
  WHEN 'studies' THEN
    event.type := 'study_' || NEW.status;
    event.account_id := NEW.owner_id;
    event.maker_id := NEW.created_by_id;
    event.subject_id := 'study_' || replace(NEW.id::text, '-', '');
    event.name := NEW.name;
  WHEN 'runs' THEN
    event.type := 'run_' || NEW.status;
    event.account_id := NEW.owner_id;
    event.maker_id := (SELECT created_by_id FROM experiments WHERE id = NEW.experiment_id);
    event.subject_id := 'run_' || replace(NEW.id::text, '-', '');
    event.name := coalesce(NEW.name, (SELECT name FROM experiments WHERE id = NEW.experiment_id));
    event.data := jsonb_build_object('number', NEW.number);
  WHEN 'users' THEN
    event.type := 'credits_low';
    event.account_id := NEW.id;
    event.subject_id := 'user_' || replace(NEW.id::text, '-', '');
    event.name := NEW.username;
  WHEN 'credit_transactions' THEN
    event.type := 'credits_purchased';
    event.account_id := NEW.owner_id;
    event.subject_id := 'user_' || replace(NEW.owner_id::text, '-', '');
    event.name := (SELECT username FROM users WHERE id = NEW.owner_id);
  END CASE;
  INSERT INTO outbox_events (type, account_id, maker_id, subject_id, name, data)
  VALUES (event.type, event.account_id, event.maker_id, event.subject_id, event.name, event.data);
  RETURN NULL;
END $$;
