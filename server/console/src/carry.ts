// Ids walk from the answer of one tab into the variables of the next, so nobody copies 32 hex digits by hand.
import { Cell } from "./store";
import type { Result } from "./transport";

export type Carried = Record<string, string | string[]>;

const STORED = "trellis:carried";
const OWNER = "trellis:carried-by";
const ID = /^([a-z]+)_[0-9a-f]{32}$/;
const VARIABLE_OF: Record<string, string> = {
  dataset: "datasetId",
  version: "datasetVersionId",
  upload: "uploadId",
  pipeline: "pipelineId",
  job: "jobId",
  experiment: "experimentId",
  run: "runId",
  mversion: "modelVersionId",
  study: "studyId",
};

/** `last` is what the blanks were filled with before: only that is ever replaced, never what a person wrote. */
export const carried = new Cell<{ last: Carried; now: Carried }>({ last: {}, now: stored() });

export function carry(found: Carried): void {
  if (Object.keys(found).length === 0) return;
  const last = carried.get().now;
  const now = { ...last, ...found };
  localStorage.setItem(STORED, JSON.stringify(now));
  carried.set({ last, now });
}

type ShownStudy = { bestTrial?: { id?: string } | null };
type RankedRun = { node?: { id?: string; modelVersion?: { id?: string } | null } };

function stored(): Carried {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}") as Carried;
  } catch {
    return {};
  }
}

/** Ids are their viewer's: for another one the blanks are emptied again, lest an admin be offered what somebody else made before. */
export function carryFor(username: string): void {
  const before = localStorage.getItem(OWNER);
  localStorage.setItem(OWNER, username);
  if (before === null || before === username) return;
  localStorage.removeItem(STORED);
  const last = carried.get().now;
  carried.set({ last, now: Object.fromEntries(Object.entries(last).map(([name, value]) => [name, Array.isArray(value) ? [] : ""])) });
}

/** What a mutation made, the runs of one experiment that a list ranked, and the best trial of a study; other queries only look, so they move nothing. */
export function idsIn(kind: "query" | "mutation", result: Result<unknown>): Carried {
  const found: Carried = {};
  if (kind === "mutation") collect(result.data, found);
  const runs = (result.data as { experiment?: { runs?: { edges?: RankedRun[] } | null } | null } | null)?.experiment?.runs?.edges;
  if (runs?.length) {
    found["runIds"] = runs.flatMap((edge) => edge.node?.id ?? []);
    const best = runs.find((edge) => edge.node?.modelVersion?.id)?.node?.modelVersion?.id;
    if (best) found["modelVersionId"] = best;
  }
  const trial = (result.data as { study?: ShownStudy | null } | null)?.study?.bestTrial?.id;
  if (kind === "query" && trial) found["trialId"] = trial;
  return found;
}

function collect(value: unknown, found: Carried): void {
  if (typeof value !== "object" || value === null) return;
  for (const [key, part] of Object.entries(value)) {
    const prefix = key === "id" && typeof part === "string" ? ID.exec(part)?.[1] : undefined;
    const name = prefix && VARIABLE_OF[prefix];
    if (name) found[name] ??= part as string;
    else collect(part, found);
  }
}

/** The variables' text with blanks filled, keeping its layout; null when nothing changes. */
export function fill(text: string, { last, now }: { last: Carried; now: Carried }): string | null {
  let filled = text;
  for (const [name, value] of Object.entries(now)) {
    filled = filled.replace(new RegExp(`("${name}"\\s*:\\s*)(\\[[^\\]]*\\]|"[^"]*"|null)`), (whole: string, before: string, old: string) => {
      const held = parsed(old);
      const blank = held === "" || held === null || (Array.isArray(held) && held.length === 0);
      if (!blank && JSON.stringify(held) !== JSON.stringify(last[name])) return whole;
      return before + JSON.stringify(value);
    });
  }
  return filled === text ? null : filled;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
