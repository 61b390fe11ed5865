import { type ReactNode, useMemo, useState } from "react";
import { HAS_PASSKEYS, signInWithPasskey } from "../passkeys";
import { type Check, type SecondStep, signInByPassword, signInBySecondFactor } from "../session";
import { ask, change, graphql, type Outcome } from "./api";
import { type Checked, CheckedContext } from "./hooks";
import { Dialog } from "./parts/Dialog";
import { Field, Form } from "./parts/Form";

const SESSIONS = graphql`query SessionsBefore { sessions { id createdAt isCurrent } }`;
const REVOKE = graphql`mutation EndFormerSession($input: RevokeSessionInput!) {
  revokeSession(input: $input) { ... on RevokeSessionPayload { sessionId } ...Problem }
}`;
const NOT_CHECKED = "NOT_RECENTLY_CHECKED";

/** What the API takes for recent is ten minutes; a minute is left to act. */
const RECENT = 9 * 60_000;

type Session = { id: string; createdAt: string; isCurrent: boolean };

async function currentSession(): Promise<Session | undefined> {
  const { sessions } = await ask<{ sessions: Session[] }>(SESSIONS);
  return sessions.find((session) => session.isCurrent);
}

/** Gives mutations that ask for the password again, and then repeat themselves, where the API says that the sign-in is too old. */
export function Recheck({ username, children }: { username: string; children: ReactNode }) {
  const [settle, setSettle] = useState<((isChecked: boolean) => void) | null>(null);

  const checked = useMemo<Checked>(() => {
    async function check(): Promise<boolean> {
      const isChecked = await new Promise<boolean>((resolve) => setSettle(() => resolve));
      setSettle(null);
      return isChecked;
    }

    return {
      async change<T>(document: string, input?: object): Promise<Outcome<T>> {
        const outcome = await change<T>(document, input);
        if (outcome.problem?.state !== NOT_CHECKED) return outcome;
        return (await check()) ? change<T>(document, input) : { problem: { message: "Nothing was changed: this takes your password." } };
      },
      async ensureRecent() {
        const session = await currentSession().catch(() => undefined);
        return (session && Date.now() - Date.parse(session.createdAt) < RECENT) || check();
      },
    };
  }, []);

  return (
    <CheckedContext value={checked}>
      {children}
      {settle && (
        <Dialog title="Confirm that it is you" onClose={() => settle(false)}>
          <Steps username={username} onDone={() => settle(true)} onCancel={() => settle(false)} />
        </Dialog>
      )}
    </CheckedContext>
  );
}

function Steps({ username, onDone, onCancel }: { username: string; onDone(): void; onCancel(): void }) {
  const [step, setStep] = useState<SecondStep | null>(null);

  /** Signing in begins a new session; the one before is not needed any more. */
  async function signIn(attempt: () => Promise<Check>): Promise<Outcome<Check>> {
    const former = await currentSession().catch(() => undefined);
    const check = await attempt();
    if (check.state === "refused") return { problem: { message: check.reason, code: "REFUSED" } };
    if (check.state === "code" && check.reason) return { problem: { message: check.reason, code: "REFUSED" } };
    // A passkey may be somebody else's, who is signed in now.
    if (check.state === "viewer" && check.viewer.username !== username) location.reload();
    if (check.state === "viewer" && former) await change(REVOKE, { id: former.id });
    return { payload: check };
  }

  function follow(check: Check) {
    if (check.state === "code") setStep(check);
    else onDone();
  }

  if (step !== null)
    return (
      <>
        <Form
          key="code"
          submit="Confirm"
          places={{ REFUSED: "code" }}
          onSubmit={(values) => signIn(() => signInBySecondFactor(step, String(values.get("code")).trim()))}
          onDone={follow}
          onCancel={onCancel}
        >
          <Field name="code" label="Code of your app, or a backup code" autoComplete="one-time-code" autoFocus />
        </Form>
        {step.hasPasskey && <Passkey onSubmit={() => signIn(() => signInBySecondFactor(step, null))} onDone={follow} />}
      </>
    );
  return (
    <>
      <Form
        key="password"
        submit="Confirm"
        places={{ REFUSED: "password" }}
        onSubmit={(values) => signIn(() => signInByPassword(username, String(values.get("password"))))}
        onDone={follow}
        onCancel={onCancel}
      >
        <p>You signed in some time ago. This takes your password again.</p>
        <Field name="password" label="Password" type="password" autoComplete="current-password" autoFocus />
      </Form>
      <Passkey onSubmit={() => signIn(() => signInWithPasskey())} onDone={follow} />
    </>
  );
}

function Passkey({ onSubmit, onDone }: { onSubmit(): Promise<Outcome<Check>>; onDone(check: Check): void }) {
  return HAS_PASSKEYS ? <Form submit="Use a passkey" onSubmit={onSubmit} onDone={onDone} /> : null;
}
