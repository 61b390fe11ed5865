import runtime from "relay-runtime";
import { createClient } from "graphql-ws";
import { codes, headers, job, name, socketUrl, printResult, url } from "../platform.mjs";
import createMutation from "./generated/documentsCreateMutation.graphql.js";
import datasets from "./generated/documentsDatasets.graphql.js";
import pageQuery from "./generated/documentsDatasetsPageQuery.graphql.js";
import datasetsQuery from "./generated/documentsDatasetsQuery.graphql.js";
import eventsSubscription from "./generated/documentsEventsSubscription.graphql.js";
import refusedQuery from "./generated/documentsRefusedQuery.graphql.js";
import viewerQuery from "./generated/documentsViewerQuery.graphql.js";

const { Environment, Network, Observable, RecordSource, Store, commitMutation, createOperationDescriptor, fetchQuery, getSingularSelector, requestSubscription } = runtime;

const sockets = createClient({ url: socketUrl, connectionParams: headers, retryAttempts: 0 });
let last = null;
const fetchOperation = async ({ text }, variables) => {
  const response = await fetch(url, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json", accept: "application/graphql-response+json" },
    body: JSON.stringify({ query: text, variables }),
  });
  return (last = await response.json());
};
const subscribe = ({ text, name: operationName }, variables) =>
  Observable.create((sink) => sockets.subscribe({ query: text, operationName, variables }, sink));
const environment = new Environment({ network: Network.create(fetchOperation, subscribe), store: new Store(new RecordSource()) });

const create = () =>
  new Promise((resolve, reject) =>
    commitMutation(environment, { mutation: createMutation, variables: { name }, onCompleted: (data) => resolve(data.createDataset), onError: reject }),
  );
const viewer = (await fetchQuery(environment, viewerQuery, {}).toPromise()).viewer.username;
const created = (await create()).__typename;
const again = (await create()).code;
const events = await new Promise((resolve, reject) => {
  const sequences = [];
  requestSubscription(environment, {
    subscription: eventsSubscription,
    variables: { id: job },
    onNext: (data) => sequences.push(data.jobEvents.sequence),
    onCompleted: () => resolve(sequences),
    onError: reject,
  });
});

// Load two pages into one connection of the store, as usePaginationFragment does.
const root = createOperationDescriptor(datasetsQuery, {});
environment.retain(root);
await fetchQuery(environment, datasetsQuery, {}).toPromise();
const connection = () => environment.lookup(getSingularSelector(datasets, environment.lookup(root.fragment).data)).data.datasets;
const before = connection();
await fetchQuery(environment, pageQuery, { count: 2, cursor: before.pageInfo.endCursor }).toPromise();
const pages = [before.edges.length, connection().edges.length];

await fetchQuery(environment, refusedQuery, {}).toPromise().catch(() => null);
const badArgument = codes(last.errors);
printResult({ viewer, created, again, events, pages, badArgument });
await sockets.dispose();
