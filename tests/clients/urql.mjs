import { Client, cacheExchange, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { CREATE, EVENTS, REFUSED, UNKNOWN, VIEWER, codes, headers, job, name, socketUrl, told, url } from "./platform.mjs";

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

const refused = async (query) => {
  const { error } = await client.query(query, {}, { requestPolicy: "network-only" }).toPromise();
  return error.graphQLErrors.length ? codes(error.graphQLErrors) : [String(error)];
};
const asked = await client.query(VIEWER, {}).toPromise();
const byGet = await client.query(VIEWER, {}, { preferGetMethod: "force", requestPolicy: "network-only" }).toPromise();
const create = async () => (await client.mutation(CREATE, { name }).toPromise()).data.createDataset;
const events = await new Promise((resolve) => {
  const seen = [];
  client.subscription(EVENTS, { id: job }).subscribe((answer) => {
    if (answer.error) resolve([String(answer.error)]);
    // At the stream's end urql gives the last answer again, marked so.
    else if (answer.hasNext === false) resolve(seen);
    else seen.push(answer.data.jobEvents.sequence);
  });
});
told({
  viewer: asked.data.viewer.username,
  byGet: byGet.data?.viewer.username ?? String(byGet.error),
  created: (await create()).__typename,
  again: (await create()).code,
  events,
  unknown: await refused(UNKNOWN),
  badArgument: await refused(REFUSED),
});
await sockets.dispose();
