import { createClient } from "graphql-sse";
import { CREATE, EVENTS, REFUSED, UNKNOWN, VIEWER, codes, headers, job, name, told, url } from "./platform.mjs";

const client = createClient({ url, headers, retryAttempts: 0 });
const one = (query, variables) =>
  new Promise((resolve, reject) => {
    let answer = null;
    client.subscribe({ query, variables }, { next: (found) => (answer = found), error: reject, complete: () => resolve(answer) });
  });
const seen = [];
for await (const answer of client.iterate({ query: EVENTS, variables: { id: job } })) seen.push(answer.data.jobEvents.sequence);
const create = async () => (await one(CREATE, { name })).data.createDataset;
// What is refused before it runs has no stream: the client hands the answer over, a GraphQL response, with its status.
const refused = async (query) => {
  try {
    return codes((await one(query)).errors);
  } catch (error) {
    return [error.response.status, ...codes((await error.response.json()).errors)];
  }
};
told({
  viewer: (await one(VIEWER)).data.viewer.username,
  created: (await create()).__typename,
  again: (await create()).code,
  events: seen,
  unknown: await refused(UNKNOWN),
  badArgument: await refused(REFUSED),
});
client.dispose();
