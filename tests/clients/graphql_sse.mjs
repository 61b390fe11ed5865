import { createClient } from "graphql-sse";
import { CREATE, EVENTS, BAD_ARGUMENT, UNKNOWN, VIEWER, codes, headers, job, name, printResult, url } from "./platform.mjs";

const client = createClient({ url, headers, retryAttempts: 0 });
const one = (query, variables) =>
  new Promise((resolve, reject) => {
    let result = null;
    client.subscribe({ query, variables }, { next: (value) => (result = value), error: reject, complete: () => resolve(result) });
  });
const sequences = [];
for await (const result of client.iterate({ query: EVENTS, variables: { id: job } })) sequences.push(result.data.jobEvents.sequence);
const create = async () => (await one(CREATE, { name })).data.createDataset;
// An operation rejected before execution has no stream: the client passes on the GraphQL response with its HTTP status.
const errorCodes = async (query) => {
  try {
    return codes((await one(query)).errors);
  } catch (error) {
    return [error.response.status, ...codes((await error.response.json()).errors)];
  }
};
printResult({
  viewer: (await one(VIEWER)).data.viewer.username,
  created: (await create()).__typename,
  again: (await create()).code,
  events: sequences,
  unknown: await errorCodes(UNKNOWN),
  badArgument: await errorCodes(BAD_ARGUMENT),
});
client.dispose();
