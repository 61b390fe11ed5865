import { useState } from "react";
import { HAS_PASSKEYS, signInWithPasskey } from "../passkeys";
import { Providers } from "../Providers";
import { signInByCode } from "../session";
import { change, graphql, type Outcome } from "./api";
import { Field, Form } from "./parts/Form";

const RESTORE = graphql`mutation RestoreAccount($input: RestoreAccountInput!) {
  restoreAccount(input: $input) { ... on LoginPayload { viewer { username } } ... on TotpRequired { challenge } ...Problem }
}`;

type Restored = { challenge?: string };

/** The way back to an account that its owner deleted: its password, and its second factor if it has one; or its passkey or provider. */
export function Restore({ onDone, onCancel }: { onDone(): void; onCancel(): void }) {
  const [challenge, setChallenge] = useState<string | null>(null);
  const [isTaken, setTaken] = useState(false);
  const [other, setOther] = useState("");
  const [refusal, setRefusal] = useState<string | null>(null);

  async function restore(values: FormData): Promise<Outcome<Restored>> {
    const input = { login: values.get("login"), password: values.get("password"), username: values.get("username") || null, transport: "COOKIE" };
    const outcome = await change<Restored>(RESTORE, input);
    if (outcome.problem?.code === "NAME_TAKEN") setTaken(true);
    return outcome;
  }

  async function restoreByPasskey() {
    const check = await signInWithPasskey(undefined, { username: other.trim() });
    if (check.state === "viewer") onDone();
    else setRefusal("reason" in check && check.reason ? check.reason : "The passkey was not accepted.");
  }

  async function confirm(values: FormData): Promise<Outcome<null>> {
    const check = await signInByCode(challenge ?? "", String(values.get("code")).trim());
    if (check.state === "viewer") return { payload: null };
    return { problem: { message: "reason" in check && check.reason ? check.reason : "The code was not accepted.", code: "REFUSED" } };
  }

  return (
    <section className="alone">
      <h2>Restore a deleted account</h2>
      {challenge === null ? (
        <Form<Restored>
          key="password"
          label="Restore a deleted account"
          submit="Restore"
          places={{ NAME_TAKEN: "username" }}
          onSubmit={restore}
          onDone={(payload) => (payload.challenge ? setChallenge(payload.challenge) : onDone())}
          onCancel={onCancel}
        >
          <Field name="login" label="Address or username that it had" autoComplete="username" autoFocus />
          <Field name="password" label="Password that it had" type="password" autoComplete="current-password" />
          {isTaken && <Field name="username" label="Another username" autoComplete="off" hint="Its own was taken meanwhile." />}
        </Form>
      ) : (
        <Form key="code" label="Code" submit="Restore" places={{ REFUSED: "code" }} onSubmit={confirm} onDone={onDone} onCancel={onCancel}>
          <Field name="code" label="Code of your app, or a backup code" autoComplete="one-time-code" autoFocus />
        </Form>
      )}
      {challenge === null && (
        <div className="others">
          <h3>Without a password</h3>
          <label>
            Another username, if its own was taken meanwhile
            <input autoComplete="off" spellCheck={false} value={other} onChange={(event) => setOther(event.target.value)} />
          </label>
          {HAS_PASSKEYS && (
            <button type="button" onClick={() => void restoreByPasskey()}>
              Restore with a passkey
            </button>
          )}
          <Providers page="account" restores={{ username: other.trim() }} />
          {refusal && (
            <p className="problem" role="alert">
              {refusal}
            </p>
          )}
        </div>
      )}
    </section>
  );
}
