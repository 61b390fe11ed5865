// How the API executed the last operation, as its `extensions.plan` says, while plans are asked for.
import { Cell } from "../store";
import type { Operation, Result } from "../transport";

export type Figures = { statements: number; rows: number; milliseconds: number; databaseMilliseconds: number; ownMilliseconds: number; steps: Step[] };
export type Step = Figures & { name: string; edge: string; reads: string; objects: number | null };
export type Plan = Figures & { unplanned?: string };
/** The tab that it belongs to is null until the pane has seen it; the plan is null where the API showed none. */
export type Shown = { tab: string | null; plan: Plan | null };

export const HEADERS = { "X-Trellis-Plan": "1" };

export const asked = new Cell(false);
export const shown = new Cell<Shown | null>(null);

/** What to send along: nothing for the schema, which GraphiQL reads by itself. */
export function planHeaders(operation: Operation): Record<string, string> {
  return asked.get() && operation.operationName !== "IntrospectionQuery" ? HEADERS : {};
}

/** Take the plan out of an answer, so that the pane beside it shows the answer alone. */
export function takePlan(operation: Operation, result: Result<unknown>): void {
  if (!asked.get() || operation.operationName === "IntrospectionQuery") return;
  const { plan = null, ...others } = (result.extensions ?? {}) as { plan?: Plan };
  shown.set({ tab: null, plan });
  if (Object.keys(others).length > 0) result.extensions = others;
  else delete result.extensions;
}

export function toggle(): void {
  asked.set(!asked.get());
  shown.set(null);
}
