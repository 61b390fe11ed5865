import { useId, useMemo, useState } from "react";
import { graphql, type Page } from "./api";
import { Chart, type Period } from "./Chart";
import { count, duration } from "./format";
import { useQuery, useWho } from "./hooks";
import { Ready, Table } from "./parts/List";
import { UsageByKey } from "./UsageByKey";

const USAGE = graphql`query ApiUsage($since: DateTime!, $until: DateTime!, $granularity: UsageGranularity!, $apiKeyId: ID) {
  apiUsage(since: $since, until: $until, granularity: $granularity, apiKeyId: $apiKeyId) {
    periodStart requests errors p95
    operations { operationName requests errors p95 }
  }
}`;
const KEYS = graphql`query KeysWithUsage { apiKeys(first: 100) { edges { node { id name prefix lastUsedAt } } pageInfo { hasNextPage endCursor } } }`;

type Operation = { operationName: string | null; requests: number; errors: number; p95: number };
type Bucket = { periodStart: string; requests: number; errors: number; p95: number | null; operations: Operation[] };
export type UsedKey = { id: string; name: string; prefix: string; lastUsedAt: string | null };
export type Range = { since: string; until: string; granularity: "HOUR" | "DAY" };

const HOUR = 3_600_000;
const RANGES = [
  { name: "24 hours", granularity: "HOUR", length: 23 * HOUR },
  { name: "7 days, by hour", granularity: "HOUR", length: 167 * HOUR },
  { name: "30 days", granularity: "DAY", length: 29 * 24 * HOUR },
  { name: "a year", granularity: "DAY", length: 364 * 24 * HOUR },
] as const;

export function Usage() {
  const [chosen, setChosen] = useState(0);
  const [keyId, setKeyId] = useState("");
  const [now, setNow] = useState(() => Date.now());
  const who = useWho();
  const keys = useQuery<{ apiKeys: Page<UsedKey> }>(KEYS);
  const range = useMemo<Range>(() => {
    const { granularity, length } = RANGES[chosen]!;
    return { since: new Date(now - length).toISOString(), until: new Date(now + 1000).toISOString(), granularity };
  }, [chosen, now]);
  const usage = useQuery<{ apiUsage: Bucket[] }>(USAGE, { ...range, apiKeyId: keyId || null });
  const own = (keys.data?.apiKeys.edges ?? []).map((edge) => edge.node);

  return (
    <>
      <section>
        <div className="filters">
          <Choice label="Period" value={String(chosen)} onChange={(value) => setChosen(Number(value))} options={RANGES.map(({ name }, index) => [String(index), name])} />
          <Choice label="Used with" value={keyId} onChange={setKeyId} options={[["", "anything"], ...own.map((key): [string, string] => [key.id, `${key.name} (${key.prefix}…)`])]} />
          <button type="button" onClick={() => setNow(Date.now())}>
            Refresh
          </button>
        </div>
        {who.role === "ADMIN" && <p className="hint">As an admin you see everybody's requests.</p>}
        <Ready query={usage}>{({ apiUsage }) => <Numbers buckets={apiUsage} granularity={range.granularity} />}</Ready>
      </section>
      <UsageByKey keys={own} range={range} />
    </>
  );
}

type ChoiceProps = { label: string; value: string; options: [string, string][]; onChange(value: string): void };

function Choice({ label, value, options, onChange }: ChoiceProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.target.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

function Numbers({ buckets, granularity }: { buckets: Bucket[]; granularity: Range["granularity"] }) {
  const periods = useMemo(() => buckets.map((bucket) => periodOf(bucket, granularity, buckets.length <= 24)), [buckets, granularity]);
  const operations = useMemo(() => sumOperations(buckets), [buckets]);
  const total = periods.reduce((sum, period) => sum + period.requests, 0);
  const errors = periods.reduce((sum, period) => sum + period.errors, 0);
  return (
    <>
      <p>
        <strong>{count(total)}</strong> requests, <strong>{count(errors)}</strong> with errors. A request is counted a few seconds after it ended.
      </p>
      <Chart title={`Requests by ${granularity === "HOUR" ? "hour" : "day"}`} periods={periods} />
      <details>
        <summary>The chart as a table</summary>
        <Table
          caption={`Requests by ${granularity === "HOUR" ? "hour" : "day of UTC"}`}
          columns={["Begins", "Requests", "Errors", "p95"]}
          rows={periods.map((period) => ({ key: period.start, cells: [period.label, count(period.requests), count(period.errors), duration(period.p95)] }))}
        />
      </details>
      {operations.length > 0 && (
        <Table
          caption="By operation, of the 20 most requested of each period"
          columns={["Operation", "Requests", "Errors", "Highest p95 of a period"]}
          rows={operations.map((operation) => ({
            key: operation.operationName ?? "",
            cells: [operation.operationName ?? "without a name", count(operation.requests), count(operation.errors), duration(operation.p95)],
          }))}
        />
      )}
    </>
  );
}

const DAY_NAME = { month: "short", day: "numeric" } as const;

function periodOf(bucket: Bucket, granularity: Range["granularity"], isOneDay: boolean): Period {
  const start = new Date(bucket.periodStart);
  // Days are those of UTC; hours are told in the reader's time.
  const day = start.toLocaleDateString(undefined, granularity === "DAY" ? { ...DAY_NAME, timeZone: "UTC" } : DAY_NAME);
  const time = start.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  return {
    start: bucket.periodStart,
    label: granularity === "HOUR" ? `${day}, ${time}` : day,
    tick: isOneDay ? time : day,
    requests: Number(bucket.requests),
    errors: Number(bucket.errors),
    p95: bucket.p95,
  };
}

/** Percentiles of several periods cannot be added up: the highest is kept. */
function sumOperations(buckets: Bucket[]): Operation[] {
  const sums = new Map<string | null, Operation>();
  for (const { operationName, requests, errors, p95 } of buckets.flatMap((bucket) => bucket.operations)) {
    const sum = sums.get(operationName) ?? { operationName, requests: 0, errors: 0, p95: 0 };
    sums.set(operationName, {
      operationName,
      requests: sum.requests + Number(requests),
      errors: sum.errors + Number(errors),
      p95: Math.max(sum.p95, p95),
    });
  }
  return [...sums.values()].sort((one, other) => other.requests - one.requests);
}
