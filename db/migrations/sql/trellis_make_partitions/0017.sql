-- A uuidv7 begins with 48 bits of milliseconds, so a month of ids is a range of uuids.
-- Triggers for rows are inherited by partitions, those for statements are not: TRUNCATE has to be refused on each one.
CREATE OR REPLACE FUNCTION trellis_make_partitions(months integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  parent text; month timestamptz; lower_bound uuid; upper_bound uuid; part text; made text[];
BEGIN
  FOREACH parent IN ARRAY ARRAY['job_events', 'metric_points', 'audit_events'] LOOP
    made = '{}';
    IF to_regclass(parent || '_default') IS NULL THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
      made = made || (parent || '_default');
    END IF;
    FOR ahead IN 0..months LOOP
      month = date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(months => ahead);
      part = parent || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
      lower_bound = rpad(lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
      upper_bound = rpad(lpad(to_hex((extract(epoch FROM month + interval '1 month') * 1000)::bigint), 12, '0'), 32, '0')::uuid;
      IF to_regclass(part) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, parent, lower_bound, upper_bound);
        made = made || part;
      END IF;
    END LOOP;
    IF parent = 'audit_events' THEN
      FOREACH part IN ARRAY made LOOP
        EXECUTE format(
          'CREATE TRIGGER keep_all BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION trellis_refuse(%L)',
          part, 'the audit is only ever added to');
      END LOOP;
    END IF;
  END LOOP;
END $$;
