// What a subscription has said so far. GraphiQL's own pane shows only the newest event.
import { Cell } from "../store";
import type { Operation, Result } from "../transport";

export type Line = { number: number; at: string; type: string; text: string };
export type Stream = {
  name: string;
  /** The tab it was started in, which alone shows it; null until the pane has seen it. */
  tab: string | null;
  state: "open" | "ended" | "stopped" | "failed";
  failure: string | null;
  count: number;
  progress: number | null;
  lines: Line[];
  series: Map<string, Series>;
};
/** A metric from its first step to its last. `every` grows by doubling: only each such point is kept, so that a long one stays drawable. */
export type Series = { points: [step: number, value: number][]; last: [step: number, value: number]; count: number; every: number };

const LINES = 200;
const POINTS = 400; // More than a curve has pixels.

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

/** By the person who watches: what was watched goes on. */
export function stopped(): void {
  const now = stream.get();
  if (now?.state === "open") stream.set({ ...now, state: "stopped" });
}

type Event = {
  type?: string;
  status?: string;
  progress?: number;
  step?: string | null;
  currentStep?: string | null;
  message?: string | null;
  data?: { values?: Record<string, number | null> } | null;
  createdAt?: string;
  points?: Point[];
};
type Point = { key: string; step?: number; value: number | null };

export function streamed(result: Result<unknown>): void {
  const now = stream.get();
  if (!now) return;
  const event = Object.values((result.data ?? {}) as Record<string, unknown>)[0] as Event | null | undefined;
  const count = now.count + 1;
  if (event?.points && !result.errors) {
    stream.set({ ...now, count, series: longer(now.series, event.points) });
    return;
  }
  const line = {
    number: count,
    at: timeOf(event?.createdAt),
    type: result.errors ? "ERROR" : (event?.type ?? event?.status ?? ""),
    text: result.errors ? result.errors.map((error) => error.message).join("; ") : textOf(event),
  };
  stream.set({ ...now, count, progress: event?.progress ?? now.progress, lines: [...now.lines, line].slice(-LINES) });
}

function longer(before: Map<string, Series>, points: Point[]): Map<string, Series> {
  const series = new Map(before);
  for (const { key, step, value } of points) {
    if (value === null) continue;
    let one = series.get(key);
    if (!one || one === before.get(key)) one = one ? { ...one, points: [...one.points] } : { points: [], last: [0, 0], count: 0, every: 1 };
    series.set(key, one);
    one.last = [step ?? one.count, value];
    if (one.count % one.every === 0) one.points.push(one.last);
    one.count += 1;
    if (one.points.length > POINTS) {
      one.points = one.points.filter((_, index) => index % 2 === 0);
      one.every *= 2;
    }
  }
  return series;
}

export function short(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(4);
}

function timeOf(moment: string | undefined): string {
  return (moment ? new Date(moment) : new Date()).toLocaleTimeString([], { hour12: false });
}

function textOf(event: Event | null | undefined): string {
  const values = Object.entries(event?.data?.values ?? {}).map(([key, value]) => `${key} ${value === null ? "not finite" : short(value)}`);
  const said = [event?.step ?? event?.currentStep, event?.message, values.join(", ")].filter(Boolean).join(": ");
  if (said || event?.type || event?.status) return said;
  return JSON.stringify(event ?? null).slice(0, 160);
}
