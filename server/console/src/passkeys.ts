// Passkeys: the browser asks a device to make one, or to answer with one; the API makes the challenges and verifies the answers.
import { type Check, checkOf, failureOf, type SignedIn } from "./session";
import { post } from "./transport";

type Begun = { options?: unknown; message?: string };

/** Whether this browser can use passkeys. */
export const HAS_PASSKEYS = typeof PublicKeyCredential === "function" && typeof PublicKeyCredential.parseRequestOptionsFromJSON === "function";

/** Adds a passkey with this name; the reason if that failed. It needs a session that began less than ten minutes ago. */
export async function registerPasskey(name: string): Promise<string | null> {
  try {
    const options = await begin("beginPasskeyRegistration", "BeginPasskeyRegistration", { name });
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options as PublicKeyCredentialCreationOptionsJSON);
    const credential = toJSON(await navigator.credentials.create({ publicKey }));
    const query = `mutation FinishPasskeyRegistration($input: FinishPasskeyRegistrationInput!) {
      answer: finishPasskeyRegistration(input: $input) { ... on InvalidInput { issues { message } } ... on Problem { message } }
    }`;
    const result = await post<{ answer: SignedIn }>({ query, variables: { input: { credential } } });
    if (!result.data) return failureOf(result);
    return result.data.answer.issues?.[0]?.message ?? result.data.answer.message ?? null;
  } catch (error) {
    return reasonOf(error);
  }
}

/** Signs in with any passkey of this site; with the challenge that a password gave, with one of that account's. `restores` a deleted account. */
export async function signInWithPasskey(challenge?: string, restores?: { username: string }): Promise<Check> {
  try {
    const options = await begin("beginPasskeyLogin", "BeginPasskeyLogin", { challenge });
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options as PublicKeyCredentialRequestOptionsJSON);
    const credential = toJSON(await navigator.credentials.get({ publicKey }));
    const query = `mutation SignIn($input: FinishPasskeyLoginInput!) {
      answer: finishPasskeyLogin(input: $input) {
        ... on LoginPayload { viewer { username role } }
        ... on InvalidInput { issues { message } }
        ... on Problem { message }
      }
    }`;
    const input = { credential, challenge, transport: "COOKIE", ...(restores && { restore: true, username: restores.username || null }) };
    const result = await post<{ answer: SignedIn }>({ query, variables: { input } });
    return checkOf(result.data?.answer ?? { message: failureOf(result) });
  } catch (error) {
    return { state: "refused", reason: reasonOf(error) };
  }
}

/** The options for the browser. Throws an Error with the API's reason. */
async function begin(mutation: string, type: string, input: object): Promise<unknown> {
  const query = `mutation ${type}($input: ${type}Input!) {
    answer: ${mutation}(input: $input) { ... on ${type}Payload { options } ... on Problem { message } }
  }`;
  const result = await post<{ answer: Begun }>({ query, variables: { input } });
  const options = result.data?.answer.options;
  if (!options) throw new Error(result.data?.answer.message ?? failureOf(result));
  return options;
}

function toJSON(credential: Credential | null): unknown {
  if (!(credential instanceof PublicKeyCredential)) throw new Error("The browser gave no passkey.");
  return credential.toJSON();
}

function reasonOf(error: unknown): string {
  // The browser does not tell a refusal from a time that ran out, so that a page cannot learn which passkeys there are.
  if (error instanceof DOMException && error.name === "NotAllowedError") return "No passkey was used: it was cancelled, there is none for this site, or it took too long.";
  if (error instanceof DOMException && error.name === "InvalidStateError") return "This device has a passkey of your account already.";
  if (error instanceof DOMException && error.name === "SecurityError") return `The browser allows no passkeys at ${location.origin}. Open Trellis by its name, with https.`;
  return error instanceof Error ? error.message : String(error);
}
