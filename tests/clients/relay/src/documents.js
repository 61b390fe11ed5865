// Compiled by relay-compiler against the schema; relay.mjs runs the artifacts.
graphql`
  query documentsViewerQuery {
    viewer {
      id
      username
    }
  }
`;

graphql`
  fragment documentsDatasets on Query @refetchable(queryName: "documentsDatasetsPageQuery") @argumentDefinitions(count: { type: "Int", defaultValue: 2 }, cursor: { type: "String" }) {
    datasets(first: $count, after: $cursor, orderBy: { field: NAME, direction: ASC }) @connection(key: "documents_datasets") {
      edges {
        node {
          id
          name
        }
      }
    }
  }
`;

graphql`
  query documentsDatasetsQuery {
    ...documentsDatasets
  }
`;

graphql`
  fragment documentsDataset on Dataset @refetchable(queryName: "documentsDatasetRefetchQuery") {
    name
    description
  }
`;

graphql`
  query documentsDatasetQuery($id: ID!) {
    node(id: $id) {
      id
      ...documentsDataset @alias
    }
  }
`;

graphql`
  mutation documentsCreateMutation($name: String!) {
    createDataset(input: { name: $name }) {
      __typename
      ... on CreateDatasetPayload {
        dataset {
          id
          name
        }
      }
      ... on NameTaken {
        code
        name
      }
    }
  }
`;

graphql`
  subscription documentsEventsSubscription($id: ID!) {
    jobEvents(id: $id) {
      sequence
      type
    }
  }
`;

graphql`
  query documentsRefusedQuery {
    datasets(first: -1) {
      totalCount
    }
  }
`;
