import { CloseCode, createClient } from "graphql-ws";
import { CREATE, EVENTS, BAD_ARGUMENT, UNKNOWN, VIEWER, codes, headers, job, name, socketUrl, printResult } from "./platform.mjs";

const one = (client, query, variables) =>
  new Promise((resolve) => {
    let result = null;
    client.subscribe({ query, variables }, { next: (value) => (result = value), error: (errors) => resolve({ errors }), complete: () => resolve(result) });
  });

const client = createClient({ url: socketUrl, connectionParams: headers, retryAttempts: 0, lazy: false });
const sequences = [];
for await (const result of client.iterate({ query: EVENTS, variables: { id: job } })) sequences.push(result.data.jobEvents.sequence);
const create = async () => (await one(client, CREATE, { name })).data.createDataset;

// An invalid document fails alone: the other stream on the socket continues.
const secondStream = client.iterate({ query: EVENTS, variables: { id: job } });
const first = (await secondStream.next()).value.data.jobEvents.sequence;
const syntax = codes((await one(client, "query {")).errors);
const rest = [];
for await (const result of secondStream) rest.push(result.data.jobEvents.sequence);

let closed = null;
const stranger = createClient({
  url: socketUrl,
  connectionParams: { authorization: "Bearer trk_of_nobody_at_all_0000000000" },
  retryAttempts: 0,
  on: { closed: (event) => (closed = event.code) },
});
await one(stranger, VIEWER);

printResult({
  viewer: (await one(client, VIEWER)).data.viewer.username,
  created: (await create()).__typename,
  again: (await create()).code,
  events: sequences,
  unknown: codes((await one(client, UNKNOWN)).errors),
  badArgument: codes((await one(client, BAD_ARGUMENT)).errors),
  syntax,
  beside: [first, ...rest],
  refused: closed === CloseCode.Forbidden || closed === CloseCode.Unauthorized ? "refused" : closed,
});
await client.dispose();
