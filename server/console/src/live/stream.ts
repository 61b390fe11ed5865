// What a subscription has said so far. GraphiQL's own pane shows only the newest event.
import { Cell } from "../store";
import type { Operation, Result } from "../transport";

export type Line = { number: number; at: string; type: string; text: string };
export type Stream = {
  name: string;
  /** The tab it was started in, which alone shows it; null until the pane has seen it. */
  tab: string | null;
  state: "open" | "ended" | "failed";
  failure: string | null;
  count: number;
  progress: number | null;
  lines: Line[];
  series: Map<string, number[]>;
};

const LINES = 200;
const POINTS = 400;

export const stream = new Cell<Stream | null>(null);

export function opened(operation: Operation): void {
  stream.set({
    name: operation.operationName ?? "Subscription",
    tab: null,
    state: "open",
    failure: null,
    count: 0,
    progress: null,
    lines: [],
    series: new Map(),
  });
}

export function closed(failure: Error | null): void {
  const now = stream.get();
  if (now?.state === "open") stream.set({ ...now, state: failure ? "failed" : "ended", failure: failure?.message ?? null });
}

type Event = {
  type?: string;
  status?: string;
  progress?: number;
  step?: string | null;
  currentStep?: string | null;
  message?: string | null;
  createdAt?: string;
  points?: { key: string; step?: number; value: number | null }[];
};

export function streamed(result: Result<unknown>): void {
  const now = stream.get();
  if (!now) return;
  const event = Object.values((result.data ?? {}) as Record<string, unknown>)[0] as Event | null | undefined;
  const count = now.count + 1;
  const series = new Map(now.series);
  for (const { key, value } of event?.points ?? []) {
    if (value !== null) series.set(key, [...(series.get(key) ?? []), value].slice(-POINTS));
  }
  const line = {
    number: count,
    at: timeOf(event?.createdAt),
    type: result.errors ? "ERROR" : (event?.type ?? event?.status ?? ""),
    text: result.errors ? result.errors.map((error) => error.message).join("; ") : textOf(event),
  };
  stream.set({ ...now, count, series, progress: event?.progress ?? now.progress, lines: [...now.lines, line].slice(-LINES) });
}

function timeOf(moment: string | undefined): string {
  return (moment ? new Date(moment) : new Date()).toLocaleTimeString([], { hour12: false });
}

function textOf(event: Event | null | undefined): string {
  if (event?.points) return event.points.map((point) => `${point.key} ${point.value?.toPrecision(4) ?? "–"}`).join("  ");
  const said = [event?.step ?? event?.currentStep, event?.message].filter(Boolean).join(": ");
  if (said || event?.type || event?.status) return said;
  return JSON.stringify(event ?? null).slice(0, 160);
}
