import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

const PART = 4 * 1024 * 1024;

/** SHA-256 of a file of any size, part by part: `crypto.subtle` would want all of it in memory, and a page that is served by https or from localhost. */
export async function hashOf(file: Blob, signal: AbortSignal, told: (percent: number) => void): Promise<string> {
  const hash = sha256.create();
  for (let start = 0; start < file.size; start += PART) {
    signal.throwIfAborted();
    hash.update(new Uint8Array(await file.slice(start, start + PART).arrayBuffer()));
    told((Math.min(start + PART, file.size) / file.size) * 100);
  }
  return bytesToHex(hash.digest());
}
