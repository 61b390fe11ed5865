// How GraphiQL's operations reach the API: POST for queries and mutations, graphql-transport-ws at the same path for subscriptions.
import type { Fetcher, FetcherParams } from "@graphiql/toolkit";
import { type DocumentNode, type FormattedExecutionResult, getOperationAST, parse } from "graphql";
import { type Client, createClient, type Sink } from "graphql-ws";
import { planHeaders, takePlan } from "./plan/plan";
import { API, type Failure, type Operation, post, type Result } from "./transport";

export function connect(): Client {
  const url = new URL(API, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return createClient({
    url: url.href,
    lazy: true,
    retryAttempts: 5,
    shouldRetry: (cause) => (cause as { code?: number }).code !== 4403, // A connection that is reset is an error first, not a close code.
  });
}

/** A subscription that goes on where a dropped connection ended: graphql-ws sends the variables again, and `after` has the last cursor by then. */
export function subscribe<T>(client: Client, operation: Operation, sink: Sink<FormattedExecutionResult<T>>): () => void {
  const current = { ...operation, variables: { ...operation.variables } };
  return client.subscribe<T>(current, {
    ...sink,
    next(result) {
      const [event] = Object.values((result.data ?? {}) as Record<string, { cursor?: unknown } | null>);
      if (event?.cursor) current.variables["after"] = event.cursor;
      sink.next(result as FormattedExecutionResult<T>);
    },
  });
}

/** What ended a stream, as an Error: graphql-ws hands over a CloseEvent, a list of GraphQL errors, or an Error. */
export function streamFailure(cause: unknown): Error {
  if (cause instanceof Error) return cause;
  if (Array.isArray(cause)) return new Error(cause.map((one: Failure) => one.message).join("; "));
  if (cause instanceof CloseEvent) {
    const why = cause.reason || (cause.code === 1006 ? "the API went away or refused the websocket" : "no reason given");
    return new Error(`The subscription's connection was closed (${cause.code}): ${why}.`);
  }
  return new Error("The subscription ended in a way the browser does not explain.");
}

export type Observed = {
  /** What it returns is called with the answer, or when a subscription came to its end by itself, with its first event that has errors, else its last. */
  started?: (operation: Operation) => ((result: Result<unknown>) => void) | undefined;
  answered?: (operation: Operation, kind: "query" | "mutation", result: Result<unknown>) => void;
  opened?: (operation: Operation) => void;
  streamed?: (result: Result<unknown>) => void;
  closed?: (failure: Error | null) => void;
  stopped?: () => void;
};

/** GraphiQL's fetcher. It must change with the viewer: GraphiQL asks for the schema again when it does. */
export function fetcherFor(client: Client, seen: Observed): Fetcher {
  return async (params: FetcherParams, options) => {
    const operation = params as Operation;
    const kind = kindOf(operation, options?.documentAST);
    const ended = seen.started?.(operation);
    if (kind !== "subscription") {
      const headers = { ...planHeaders(operation), ...(options?.headers as Record<string, string> | undefined) };
      const result = await post<unknown>(operation, headers);
      takePlan(operation, result);
      seen.answered?.(operation, kind, result);
      ended?.(result);
      return result as never;
    }
    return {
      subscribe(observer: { next(value: unknown): void; error(error: unknown): void; complete(): void }) {
        seen.opened?.(operation);
        let last: Result<unknown> = { data: {} };
        let isStopped = false;
        const end = subscribe<unknown>(client, operation, {
          next(result) {
            last = last.errors ? last : (result as Result<unknown>);
            seen.streamed?.(result as Result<unknown>);
            observer.next(result);
          },
          error(cause) {
            const failure = streamFailure(cause);
            seen.closed?.(failure);
            observer.error(Array.isArray(cause) ? { errors: cause } : failure);
          },
          complete() {
            seen.closed?.(null);
            if (!isStopped) ended?.(last);
            observer.complete();
          },
        });
        return {
          unsubscribe() {
            isStopped = true;
            seen.stopped?.(); // Before graphql-ws reports this end as that of the stream.
            end();
          },
        };
      },
    } as never;
  };
}

function kindOf(operation: Operation, known?: DocumentNode): "query" | "mutation" | "subscription" {
  try {
    return getOperationAST(known ?? parse(operation.query), operation.operationName)?.operation ?? "query";
  } catch {
    return "query"; // The API explains a document that does not parse better than we could.
  }
}
