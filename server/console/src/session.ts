// Who is looking: the browser keeps the token in a cookie that scripts cannot read; here is what the API says of it.
import { signInWithPasskey } from "./passkeys";
import { PREFLIGHT, post, type Result } from "./transport";

const COOKIE = "/auth/cookie";
const FORMER_KEY = "trellis:token"; // Earlier releases kept the token here.

export type Viewer = { username: string; role: string };
export type Check =
  | { state: "none" }
  | { state: "checking" }
  | { state: "viewer"; viewer: Viewer }
  | { state: "refused"; reason: string }
  /** The password was right, or a provider knew the person, and a code is asked for, or a passkey if there may be one; `reason` is why the last one was refused. */
  | { state: "code"; challenge: string; hasPasskey: boolean; reason: string | null };
export type SecondStep = Extract<Check, { state: "code" }>;
export type SignedIn = { message?: string; issues?: { message: string }[]; viewer?: Viewer; challenge?: string; methods?: string[] };

/**
 * Signs in with the token of the URL's fragment (`#token=…`), or goes on with the challenge that a sign-in by a provider left there; else by the cookie.
 * A fragment never reaches the server, and leaves the address bar and the history here.
 */
export async function openSession(): Promise<Check> {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token")?.trim();
  const challenge = fragment.get("challenge");
  if (given || challenge) history.replaceState(null, "", location.pathname + location.search);
  if (challenge) return { state: "code", challenge, hasPasskey: true, reason: null };
  const token = given || localStorage.getItem(FORMER_KEY);
  localStorage.removeItem(FORMER_KEY);
  return token ? signInByToken(token) : whoAmI();
}

/** Exchanges a token for the cookie. */
export async function signInByToken(token: string): Promise<Check> {
  // A header holds only visible ASCII; fetch would throw a riddle about ByteString.
  if (!/^[\x21-\x7e]+$/.test(token)) return { state: "refused", reason: "A token has no spaces or special characters. Copy it again, whole and alone." };
  const refusal = await request("POST", { Authorization: `Bearer ${token}` });
  return refusal ? { state: "refused", reason: refusal } : whoAmI();
}

export function signInByPassword(login: string, password: string): Promise<Check> {
  return asked(async () => {
    const answer = await signIn("login", "LoginInput", { login, password });
    if (!answer.challenge) return checkOf(answer);
    return { state: "code", challenge: answer.challenge, hasPasskey: answer.methods?.includes("PASSKEY") ?? false, reason: null };
  });
}

/** The second step: a code of the person's app, a backup code, or without either a passkey. A wrong one may be followed by another. */
export async function signInBySecondFactor(step: SecondStep, code: string | null): Promise<Check> {
  const check = await (code === null ? signInWithPasskey(step.challenge) : signInByCode(step.challenge, code));
  return check.state === "refused" ? { ...step, reason: check.reason } : check;
}

export function signInByCode(challenge: string, code: string): Promise<Check> {
  return asked(async () => checkOf(await signIn("confirmLogin", "ConfirmLoginInput", { challenge, code })));
}

async function signIn(mutation: "login" | "confirmLogin", type: string, input: object): Promise<SignedIn> {
  const query = `mutation SignIn($input: ${type}!) {
    answer: ${mutation}(input: $input) {
      ... on LoginPayload { viewer { username role } }
      ${mutation === "login" ? "... on TotpRequired { challenge methods }" : ""}
      ... on InvalidInput { issues { message } }
      ... on Problem { message }
    }
  }`;
  const result = await post<{ answer: SignedIn }>({ query, variables: { input: { ...input, transport: "COOKIE" } } });
  return result.data?.answer ?? { message: failureOf(result) };
}

export function checkOf(answer: SignedIn): Check {
  if (answer.viewer) return { state: "viewer", viewer: answer.viewer };
  return { state: "refused", reason: answer.issues?.[0]?.message ?? answer.message ?? "The API did not say why." };
}

/** Ends the session and removes the cookie; the reason if that failed. */
export function signOut(): Promise<string | null> {
  return request("DELETE", {});
}

async function whoAmI(): Promise<Check> {
  return asked(async () => {
    const result = await post<{ viewer: Viewer }>({ query: "query WhoAmI { viewer { username role } }" });
    if (result.data?.viewer) return { state: "viewer", viewer: result.data.viewer };
    if (result.errors?.[0]?.extensions?.["code"] === "UNAUTHENTICATED") return { state: "none" };
    return { state: "refused", reason: failureOf(result) };
  });
}

async function request(method: "POST" | "DELETE", headers: Record<string, string>): Promise<string | null> {
  let response: Response;
  try {
    response = await fetch(COOKIE, { method, headers: { ...PREFLIGHT, ...headers } });
  } catch {
    return `No answer from ${location.origin}. Is the API still running?`;
  }
  if (response.ok) return null;
  if (response.status === 401)
    return "The API does not know this token. The admin's lies in the file admin-token of the data folder; `trellis user add` prints one for another user.";
  const body = (await response.json().catch(() => ({}))) as Result<unknown>;
  return failureOf(body);
}

async function asked(ask: () => Promise<Check>): Promise<Check> {
  try {
    return await ask();
  } catch (error) {
    return { state: "refused", reason: error instanceof Error ? error.message : String(error) };
  }
}

export function failureOf(result: Result<unknown>): string {
  return result.errors?.[0]?.message ?? "The API gave no answer that says who you are.";
}
