// The variables of a step: values, or places in the results of earlier steps, written `$.<step key>.<path in its data>`.
import type { Step } from "./api";

const PLACE = /^\$\.([^.]+)\../;

/** The key of the step whose result has the value; null where the value stands there itself. */
function giverOf(value: unknown): string | null {
  return typeof value === "string" ? (PLACE.exec(value)?.[1] ?? null) : null;
}

/** The variables with what is known by now; what is not is null. */
export function filled(variables: unknown, values: Record<string, unknown>): unknown {
  return map(variables, (value) => (giverOf(value) === null ? value : (values[value as string] ?? null)));
}

/** What stands in a tab by now, with what is known by now wherever nobody has changed what it was filled with. */
export function refilled(written: unknown, before: unknown, now: unknown): unknown {
  if (JSON.stringify(written) === JSON.stringify(before)) return now;
  if (!isObject(written) || Array.isArray(written) || !isObject(before) || !isObject(now)) return written;
  return Object.fromEntries(Object.entries(written).map(([name, value]) => [name, name in now ? refilled(value, before[name], now[name]) : value]));
}

/** The variables that lack a value, each with the key of the step that gives it. */
export function lacking({ variables }: Step, values: Record<string, unknown>): [name: string, giver: string][] {
  return Object.entries(variables ?? {}).flatMap(([name, value]) =>
    [...new Set(placesIn(value).filter((place) => (values[place] ?? null) === null))].map((place) => [name, giverOf(place) ?? ""] as [string, string]),
  );
}

/** All places in the result of a step that the variables of a tutorial name. */
export function placesOf(key: string, steps: Step[]): string[] {
  return [...new Set(steps.flatMap((step) => placesIn(step.variables)))].filter((place) => giverOf(place) === key);
}

/** `edges.0.node.id` of an object; undefined where there is nothing. */
export function valueAt(data: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, part) => (isObject(value) ? value[part] : undefined), data);
}

function placesIn(value: unknown): string[] {
  const places: string[] = [];
  map(value, (one) => giverOf(one) !== null && places.push(one as string));
  return places;
}

function map(value: unknown, change: (value: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => map(one, change));
  if (!isObject(value)) return change(value);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, map(one, change)]));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
