import { Client, cacheExchange, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { CREATE, EVENTS, BAD_ARGUMENT, UNKNOWN, VIEWER, codes, headers, job, name, socketUrl, printResult, url } from "./platform.mjs";

const sockets = createClient({ url: socketUrl, connectionParams: headers, retryAttempts: 0 });
const client = new Client({
  url,
  fetchOptions: { headers },
  preferGetMethod: false,
  exchanges: [
    cacheExchange,
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: (request) => ({
        subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ ...request, query: request.query ?? "" }, sink) }),
      }),
    }),
  ],
});

const errorCodes = async (query) => {
  const { error } = await client.query(query, {}, { requestPolicy: "network-only" }).toPromise();
  return error.graphQLErrors.length ? codes(error.graphQLErrors) : [String(error)];
};
const viewer = await client.query(VIEWER, {}).toPromise();
const byGet = await client.query(VIEWER, {}, { preferGetMethod: "force", requestPolicy: "network-only" }).toPromise();
const create = async () => (await client.mutation(CREATE, { name }).toPromise()).data.createDataset;
const events = await new Promise((resolve) => {
  const sequences = [];
  client.subscription(EVENTS, { id: job }).subscribe((result) => {
    if (result.error) resolve([String(result.error)]);
    // At the end of the stream urql emits the last result again, marked with hasNext: false.
    else if (result.hasNext === false) resolve(sequences);
    else sequences.push(result.data.jobEvents.sequence);
  });
});
printResult({
  viewer: viewer.data.viewer.username,
  byGet: byGet.data?.viewer.username ?? String(byGet.error),
  created: (await create()).__typename,
  again: (await create()).code,
  events,
  unknown: await errorCodes(UNKNOWN),
  badArgument: await errorCodes(BAD_ARGUMENT),
});
await sockets.dispose();
