// Runs every audit against TRELLIS_URL and prints the results as JSON: [{id, name, status, reason}].
import { auditServer } from "graphql-http";

const { TRELLIS_URL: url, TRELLIS_TOKEN: token } = process.env;
const fetchFn = (address, options = {}) =>
  fetch(address, { ...options, headers: { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) } });

const results = await auditServer({ url, fetchFn });
const report = results.map(({ id, name, status, reason }) => ({ id, name, status, reason: reason ?? null }));
process.stdout.write(`${JSON.stringify(report)}\n`);
