import { CloseCode, createClient } from "graphql-ws";
import { CREATE, EVENTS, REFUSED, UNKNOWN, VIEWER, codes, headers, job, name, socketUrl, told } from "./platform.mjs";

const one = (client, query, variables) =>
  new Promise((resolve) => {
    let answer = null;
    client.subscribe({ query, variables }, { next: (found) => (answer = found), error: (errors) => resolve({ errors }), complete: () => resolve(answer) });
  });

const client = createClient({ url: socketUrl, connectionParams: headers, retryAttempts: 0, lazy: false });
const seen = [];
for await (const answer of client.iterate({ query: EVENTS, variables: { id: job } })) seen.push(answer.data.jobEvents.sequence);
const create = async () => (await one(client, CREATE, { name })).data.createDataset;

// A bad document fails by itself: the stream beside it goes on.
const beside = client.iterate({ query: EVENTS, variables: { id: job } });
const first = (await beside.next()).value.data.jobEvents.sequence;
const syntax = codes((await one(client, "query {")).errors);
const rest = [];
for await (const answer of beside) rest.push(answer.data.jobEvents.sequence);

let closed = null;
const stranger = createClient({
  url: socketUrl,
  connectionParams: { authorization: "Bearer trk_of_nobody_at_all_0000000000" },
  retryAttempts: 0,
  on: { closed: (event) => (closed = event.code) },
});
await one(stranger, VIEWER);

told({
  viewer: (await one(client, VIEWER)).data.viewer.username,
  created: (await create()).__typename,
  again: (await create()).code,
  events: seen,
  unknown: codes((await one(client, UNKNOWN)).errors),
  badArgument: codes((await one(client, REFUSED)).errors),
  syntax,
  beside: [first, ...rest],
  refused: closed === CloseCode.Forbidden || closed === CloseCode.Unauthorized ? "refused" : closed,
});
await client.dispose();
