// What the page asks of the API, and how its mutations end.
import { Cell } from "../store";
import { post } from "../transport";

export type Issue = { path: string[]; message: string };
export type Problem = { message: string; code?: string; state?: string; issues?: Issue[] };
export type Outcome<T> = { payload: T; problem?: undefined } | { problem: Problem; payload?: undefined };
export type Change = <T>(document: string, input?: object) => Promise<Outcome<T>>;
export type Page<T> = { edges: { node: T }[]; pageInfo: { hasNextPage: boolean; endCursor: string | null } };

/** Marks a GraphQL document; the tests validate each against the schema. */
export const graphql = String.raw;

const PROBLEM = graphql`
  fragment Problem on Problem {
    message
    code
    ... on InvalidInput { issues { path message } }
    ... on WeakPassword { issues { path message } }
    ... on WrongState { state }
  }`;

/** How often the API said that the browser is not signed in any more. */
export const signedOut = new Cell(0);

/** The data of a query. Throws an Error that a person can act on. */
export async function ask<T>(document: string, variables: object = {}): Promise<T> {
  const result = await post<T>({ query: document.includes("...Problem") ? document + PROBLEM : document, variables: variables as Record<string, unknown> });
  const failure = result.errors?.[0];
  if (failure?.extensions?.["code"] === "UNAUTHENTICATED") signedOut.set(signedOut.get() + 1);
  if (failure) throw new Error(failure.message);
  return result.data as T;
}

/** Runs a mutation with one root field, which spreads `...Problem`; an error is a problem without a code. */
export async function change<T>(document: string, input?: object): Promise<Outcome<T>> {
  try {
    const [answer] = Object.values(await ask<Record<string, unknown>>(document, input ? { input } : {}));
    const { message, code, ...rest } = answer as Partial<Problem>;
    return message !== undefined && code !== undefined ? { problem: { message, code, ...rest } } : { payload: answer as T };
  } catch (error) {
    return { problem: { message: messageOf(error) } };
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
