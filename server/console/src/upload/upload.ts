// A file's way into a dataset: ask for a place, send it there, say it is done, follow the ingest, compare what arrived.
//
// The hash is compared at the end instead of being declared at the start: a declared one is signed into an x-amz-* header, and
// not every file store lets a browser send those (rclone's does not).
import type { Client } from "graphql-ws";
import { carry, idsIn } from "../carry";
import { streamFailure, subscribe } from "../fetcher";
import { post } from "../transport";
import { hashOf } from "./hash";

export type Stage = "hash" | "send" | "ingest";
export type Told = (stage: Stage, percent: number, note?: string) => void;
export type Outcome = { number: number; rows: number | null; columns: number | null; issues: number };

type Place = { method: string; url: string; headers: { name: string; value: string }[] };
type Problem = { message: string; issues?: { path: string[]; message: string }[] };

const ISSUES = "... on InvalidInput { issues { path message } }";
const PROBLEM = "... on Problem { message }";

/** Throws an Error whose message says what happened, and an AbortError when `signal` says so before the file is complete. */
export async function upload(file: File, datasetId: string, client: Client, signal: AbortSignal, told: Told): Promise<Outcome> {
  const place = await ask<{ upload: Place & { id: string } }>(
    "requestUpload",
    `mutation RequestUpload($input: RequestUploadInput!) {
      requestUpload(input: $input) {
        ... on RequestUploadPayload { upload { id method url headers { name value } version { id } } }
        ${ISSUES}
        ${PROBLEM}
      }
    }`,
    { datasetId, filename: file.name, sizeBytes: file.size, ...(file.type ? { contentType: file.type } : {}) },
  );
  const sha256 = await sentAndHashed(file, place.upload, signal, told);
  const { version, job } = await ask<{ version: { id: string }; job: { id: string } }>(
    "completeUpload",
    `mutation CompleteUpload($input: CompleteUploadInput!) {
      completeUpload(input: $input) { ... on CompleteUploadPayload { version { id } job { id } } ${PROBLEM} }
    }`,
    { uploadId: place.upload.id },
  );
  await follow(job.id, client, told);
  return await outcomeOf(version.id, sha256);
}

async function sentAndHashed(file: File, place: Place, signal: AbortSignal, told: Told): Promise<string> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  try {
    const [sha256] = await Promise.all([
      hashOf(file, either, (percent) => told("hash", percent)),
      send(file, place, either, (percent) => told("send", percent)),
    ]);
    return sha256;
  } catch (error) {
    failed.abort();
    throw error;
  }
}

/** Its id. Throws an Error that a person can act on. */
export async function createDataset(input: { name: string; targetColumn: string | null }): Promise<string> {
  const made = await ask<{ dataset: { id: string } }>(
    "createDataset",
    `mutation CreateDataset($input: CreateDatasetInput!) {
      createDataset(input: $input) { ... on CreateDatasetPayload { dataset { id } } ${ISSUES} ${PROBLEM} }
    }`,
    input,
  );
  return made.dataset.id;
}

async function ask<T>(field: string, query: string, input: object): Promise<T> {
  const result = await post<Record<string, T | Problem>>({ query, variables: { input } });
  if (result.errors?.length) throw new Error(result.errors.map((error) => error.message).join(" "));
  const answer = result.data?.[field];
  if (!answer) throw new Error(`The API gave no answer to ${field}.`);
  if ("message" in (answer as Problem)) {
    const { message, issues = [] } = answer as Problem;
    throw new Error([message, ...issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`)].join(" "));
  }
  carry(idsIn("mutation", result));
  return answer as T;
}

// XMLHttpRequest, because fetch tells nothing of how far an upload is.
function send(file: File, to: Place, signal: AbortSignal, told: (percent: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(to.method, to.url);
    for (const { name, value } of to.headers) {
      if (!/^(content-length|host)$/i.test(name)) request.setRequestHeader(name, value); // Those two are the browser's own to send.
    }
    request.upload.onprogress = (event) => told((event.loaded / file.size) * 100);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve();
      else reject(new Error(`The file store refused the file with HTTP ${request.status}. ${request.responseText.replace(/<[^>]+>/g, " ").trim().slice(0, 200)}`));
    };
    request.onerror = () =>
      reject(new Error(`The browser could not send the file to ${new URL(to.url).origin}. The file store must be reachable from here and allow uploads from ${location.origin} (CORS).`));
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

type JobEvent = { type: string; progress: number; step: string | null; message: string | null; job: { error: { message: string } | null } };

function follow(jobId: string, client: Client, told: Told): Promise<void> {
  return new Promise((resolve, reject) => {
    let last: JobEvent | undefined;
    subscribe<{ jobEvents: JobEvent }>(
      client,
      {
        query: "subscription FollowIngest($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { cursor type progress step message job { error { message } } } }",
        variables: { id: jobId },
      },
      {
        next({ data }) {
          if (!data) return;
          last = data.jobEvents;
          told("ingest", last.progress, last.step ?? last.message ?? undefined);
        },
        error: (cause) => reject(streamFailure(cause)),
        complete() {
          if (last?.type === "COMPLETED") resolve();
          else reject(new Error(last?.job.error?.message ?? last?.message ?? "The ingest ended without saying how. Look at the job in the watch tab."));
        },
      },
    );
  });
}

async function outcomeOf(versionId: string, sha256: string): Promise<Outcome> {
  const result = await post<{ node: { number: number; sha256: string | null; rowCount: number | null; columnCount: number | null; issues: unknown[] } | null }>(
    {
      query: "query Uploaded($id: ID!) { node(id: $id) { ... on DatasetVersion { number sha256 rowCount columnCount issues { code } } } }",
      variables: { id: versionId },
    },
  );
  const version = result.data?.node;
  if (!version) throw new Error(result.errors?.[0]?.message ?? "The file is in, but its version could not be read.");
  if (version.sha256 !== sha256) {
    throw new Error(`What arrived is not what was sent: version ${version.number} has the SHA-256 ${version.sha256}, the file has ${sha256}. Upload it again.`);
  }
  return { number: version.number, rows: version.rowCount, columns: version.columnCount, issues: version.issues.length };
}
