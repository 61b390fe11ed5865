// How queries and mutations reach the API. Both pages use it, so it imports nothing: what is imported here is loaded by the account page too.

export const API = "/graphql";
/** Without it the cookie does not count: a page of another site cannot send it. */
export const PREFLIGHT = { "GraphQL-Preflight": "1" };

export type Failure = { message: string; extensions?: Record<string, unknown> };
export type Result<T> = { data?: T | null; errors?: Failure[]; extensions?: Record<string, unknown> };
export type Operation = { query: string; variables?: Record<string, unknown>; operationName?: string | null };

/** Throws an Error that a person can act on when no GraphQL answer came back. */
export async function post<T>(operation: Operation, headers: Record<string, string> = {}): Promise<Result<T>> {
  const hasToken = Object.keys(headers).some((name) => name.toLowerCase() === "authorization");
  let response: Response;
  try {
    response = await fetch(API, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        Accept: "application/graphql-response+json, application/json;q=0.9",
        ...PREFLIGHT,
        ...headers,
      },
      credentials: hasToken ? "omit" : "same-origin", // A token of GraphiQL's headers is sent instead of the cookie.
      body: JSON.stringify(operation),
    });
  } catch {
    throw new Error(`No answer from ${location.origin}${API}. Is the API still running?`);
  }
  const text = await response.text();
  try {
    return JSON.parse(text) as Result<T>;
  } catch {
    throw new Error(`The API answered HTTP ${response.status} with something that is not JSON: ${text.slice(0, 200)}`);
  }
}
