// What the browser remembers of the viewer's tutorials: which tab of GraphiQL shows which step, and what later steps take from results.
import { Cell } from "../store";
import { shown } from "./api";
import { valueAt } from "./variables";

/**
 * The step of a tab, with the variables that the tab was filled with.
 * `taken` are the places in the step's result that later steps read, as their variables say: `$.<step key>.<path>`.
 */
export type Bound = { tutorialId: string; stepKey: string; document: string; variables: unknown; taken: string[] };
export type Values = Record<string, unknown>;
type Kept = { owner: string; open: string | null; tabs: Record<string, Bound>; values: Record<string, Values> };

const STORED = "trellis:tutorials";

export const kept = new Cell<Kept>(stored());

/** Shows this tutorial, or all of them. */
export function show(tutorialId: string | null): void {
  keep({ ...kept.get(), open: tutorialId });
}

/** `present` are the ids of all tabs: those that were closed since are forgotten. */
export function bind(tab: string, bound: Bound, present: Set<string>): void {
  const now = kept.get();
  const others = Object.entries(now.tabs).filter(([id]) => present.has(id));
  keep({ ...now, tabs: { ...Object.fromEntries(others), [tab]: bound } });
}

/** Keeps the values that later steps take from this result. */
export function learn({ tutorialId, stepKey, taken }: Bound, data: unknown): void {
  const now = kept.get();
  const found = Object.fromEntries(taken.flatMap((place) => {
    const value = valueAt(data, place.slice(`$.${stepKey}.`.length));
    return value === undefined || value === null ? [] : [[place, value] as const];
  }));
  keep({ ...now, values: { ...now.values, [tutorialId]: { ...now.values[tutorialId], ...found } } });
}

/** Its tabs stay as they are, as tabs of no step. */
export function forget(tutorialId: string): void {
  const now = kept.get();
  const { [tutorialId]: _, ...values } = now.values;
  const tabs = Object.fromEntries(Object.entries(now.tabs).filter(([, bound]) => bound.tutorialId !== tutorialId));
  keep({ ...now, tabs, values });
}

/** Results and steps are their viewer's: another one begins with none. */
export function keepFor(username: string): void {
  if (kept.get().owner === username) return;
  keep({ ...nothing(), owner: username });
  shown.set({ tutorials: null, problem: null });
}

function keep(now: Kept): void {
  try {
    localStorage.setItem(STORED, JSON.stringify(now));
  } catch {
    // A full storage costs only what a reload would have found there.
  }
  kept.set(now);
}

function stored(): Kept {
  try {
    return { ...nothing(), ...(JSON.parse(localStorage.getItem(STORED) ?? "{}") as Partial<Kept>) };
  } catch {
    return nothing();
  }
}

function nothing(): Kept {
  return { owner: "", open: null, tabs: {}, values: {} };
}
