import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client/core";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import { CREATE, EVENTS, BAD_ARGUMENT, UNKNOWN, VIEWER, codes, headers, job, name, socketUrl, printResult, url } from "./platform.mjs";

const sockets = createClient({ url: socketUrl, connectionParams: headers, retryAttempts: 0 });
const isSubscription = ({ operationType }) => operationType === "subscription";
const client = new ApolloClient({
  link: ApolloLink.split(isSubscription, new GraphQLWsLink(sockets), new HttpLink({ uri: url, headers })),
  cache: new InMemoryCache(),
});

const errorCodes = async (query) => {
  const { error } = await client.query({ query: gql(query), errorPolicy: "all", fetchPolicy: "no-cache" });
  return CombinedGraphQLErrors.is(error) ? codes(error.errors) : [String(error)];
};

const { data } = await client.query({ query: gql(VIEWER) });
const create = async () => (await client.mutate({ mutation: gql(CREATE), variables: { name } })).data.createDataset;
const events = await new Promise((resolve, reject) => {
  const sequences = [];
  client.subscribe({ query: gql(EVENTS), variables: { id: job } }).subscribe({
    next: (result) => sequences.push(result.data.jobEvents.sequence),
    error: reject,
    complete: () => resolve(sequences),
  });
});
printResult({
  viewer: data.viewer.username,
  cached: client.cache.extract()[`User:${data.viewer.id}`]?.username,
  created: (await create()).__typename,
  again: (await create()).code,
  events,
  unknown: await errorCodes(UNKNOWN),
  badArgument: await errorCodes(BAD_ARGUMENT),
});
await sockets.dispose();
client.stop();
