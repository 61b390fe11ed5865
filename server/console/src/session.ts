// Who is looking: the bearer token, where it is kept, and what the API says of it.
import { post } from "./transport";

const KEY = "trellis:token";

export type Viewer = { username: string; role: string };
export type Check = { state: "none" } | { state: "checking" } | { state: "viewer"; viewer: Viewer } | { state: "refused"; reason: string };

/** The token of the URL's fragment (`#token=…`), else the stored one. The fragment never reaches the server, and leaves the address bar and the history here. */
export function openSession(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token")?.trim();
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(given);
    return given;
  }
  return localStorage.getItem(KEY);
}

export function keepToken(token: string): void {
  localStorage.setItem(KEY, token);
}

export function forgetToken(): void {
  localStorage.removeItem(KEY);
}

export async function check(token: string): Promise<Check> {
  // A header holds only visible ASCII; fetch would throw a riddle about ByteString.
  if (!/^[\x21-\x7e]+$/.test(token)) return { state: "refused", reason: "A token has no spaces or special characters. Copy it again, whole and alone." };
  let result;
  try {
    result = await post<{ viewer: Viewer }>({ query: "query WhoAmI { viewer { username role } }" }, token);
  } catch (error) {
    return { state: "refused", reason: error instanceof Error ? error.message : String(error) };
  }
  if (result.data?.viewer) return { state: "viewer", viewer: result.data.viewer };
  const first = result.errors?.[0];
  const unknown = first?.extensions?.["code"] === "UNAUTHENTICATED";
  return {
    state: "refused",
    reason: unknown
      ? "The API does not know this token. The admin's lies in the file admin-token of the data folder; `trellis user add` prints one for another user."
      : (first?.message ?? "The API gave no answer to who this token belongs to."),
  };
}
