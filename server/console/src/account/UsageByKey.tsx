import { useQuery } from "./hooks";
import { count } from "./format";
import { Ready, Table } from "./parts/List";
import type { Range, UsedKey } from "./Usage";

const SHOWN = 10;

type Bucket = { requests: number; errors: number };

/** The sums of the keys that were used last. */
export function UsageByKey({ keys, range }: { keys: UsedKey[]; range: Range }) {
  const shown = [...keys].sort((one, other) => (other.lastUsedAt ?? "").localeCompare(one.lastUsedAt ?? "")).slice(0, SHOWN);
  if (shown.length === 0) return null;
  return (
    <section>
      <h2>By key</h2>
      <Sums keys={shown} range={range} />
    </section>
  );
}

function Sums({ keys, range }: { keys: UsedKey[]; range: Range }) {
  const fields = keys.map(
    ({ id }, index) => `key${index}: apiUsage(since: $since, until: $until, granularity: $granularity, apiKeyId: ${JSON.stringify(id)}) { requests errors }`,
  );
  const usage = useQuery<Record<string, Bucket[]>>(
    `query ApiUsageByKey($since: DateTime!, $until: DateTime!, $granularity: UsageGranularity!) { ${fields.join(" ")} }`,
    range,
  );
  return (
    <Ready query={usage}>
      {(sums) => (
        <Table
          caption={`The ${SHOWN} API keys used last, at most`}
          columns={["Key", "Begins with", "Requests", "Errors"]}
          rows={keys.map((key, index) => {
            const buckets = sums[`key${index}`] ?? [];
            return { key: key.id, cells: [key.name, <code>{key.prefix}…</code>, count(sum(buckets, "requests")), count(sum(buckets, "errors"))] };
          })}
        />
      )}
    </Ready>
  );
}

function sum(buckets: Bucket[], name: keyof Bucket): number {
  return buckets.reduce((total, bucket) => total + Number(bucket[name]), 0);
}
