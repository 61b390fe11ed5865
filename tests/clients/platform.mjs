// Input and output shared by all client scripts: pytest reads the JSON and compares it with the server's state.
export const url = process.env.TRELLIS_URL;
export const socketUrl = url.replace(/^http/, "ws");
export const token = process.env.TRELLIS_TOKEN;
export const job = process.env.TRELLIS_JOB;
export const name = process.env.TRELLIS_NAME;
export const headers = { authorization: `Bearer ${token}` };

export const VIEWER = "query Viewer { viewer { id username } }";
export const CREATE = `mutation Create($name: String!) {
  createDataset(input: { name: $name }) {
    __typename
    ... on CreateDatasetPayload { dataset { id name } }
    ... on NameTaken { code name }
  }
}`;
export const EVENTS = "subscription Events($id: ID!) { jobEvents(id: $id) { sequence type } }";
export const UNKNOWN = "query Unknown { viewer { id nothing } }";
export const BAD_ARGUMENT = "query Refused { datasets(first: -1) { totalCount } }";

export function printResult(result) {
  console.log(JSON.stringify(result));
}

export function codes(errors) {
  return (errors ?? []).map((error) => error.extensions?.code ?? String(error));
}
