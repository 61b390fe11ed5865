import { type FormEvent, useState } from "react";
import { HAS_PASSKEYS } from "./passkeys";
import { Providers } from "./Providers";
import type { Check, SecondStep } from "./session";

type Props = {
  check: Check;
  /** Which page this is; the bar leads to the other one. */
  page: "graphql" | "account";
  onToken(token: string): void;
  onPassword(login: string, password: string): void;
  onPasskey(): void;
  onSecondFactor(step: SecondStep, code: string | null): void;
  onSignOut(): void;
};

const KEY = "trellis:sign-in";
const ON_THIS_MACHINE = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
const HINTS = {
  token: "The admin's token lies in the file admin-token of the data folder.",
  password: "Sign in with your e-mail address or username.",
};

/** The bar at the top: who is signed in, or the way to sign in, by a token or by a password. */
export function SignIn({ check, page, onToken, onPassword, onPasskey, onSecondFactor, onSignOut }: Props) {
  const [way, setWay] = useState(() => (page === "account" ? "password" : startingWay()));
  const [text, setText] = useState("");
  const [login, setLogin] = useState("");

  function enter(event: FormEvent) {
    event.preventDefault();
    const secret = way === "token" ? text.trim().replace(/^Bearer\s+/i, "") : text;
    if (!secret || (way === "password" && !login.trim())) return;
    setText("");
    if (way === "token") onToken(secret);
    else onPassword(login, secret);
  }

  function change() {
    const other = way === "token" ? "password" : "token";
    localStorage.setItem(KEY, other);
    setText("");
    setWay(other);
  }

  return (
    <header className="token-bar">
      <span className="brand">
        <Lattice /> Trellis
        {page === "graphql" ? <a href="/account">Account</a> : <a href="/graphql">GraphiQL</a>}
      </span>
      {check.state === "viewer" ? (
        <div className="who">
          <span>
            Signed in as <strong>{check.viewer.username}</strong> <span className="role">{check.viewer.role}</span>
          </span>
          <button type="button" onClick={onSignOut}>
            Sign out
          </button>
        </div>
      ) : check.state === "code" ? (
        <CodeForm step={check} onSecondFactor={(code) => onSecondFactor(check, code)} onCancel={onSignOut} />
      ) : (
        <form className="who" onSubmit={enter}>
          <span className={check.state === "refused" ? "problem" : "hint"} role="status">
            {check.state === "refused" ? check.reason : check.state === "checking" ? "Asking who you are …" : HINTS[way]}
          </span>
          {way === "password" && (
            <input
              name="username"
              aria-label="E-mail address or username"
              placeholder="E-mail or username"
              autoComplete="username"
              spellCheck={false}
              value={login}
              onChange={(event) => setLogin(event.target.value)}
            />
          )}
          <input
            type="password"
            name={way}
            aria-label={way === "token" ? "API token" : "Password"}
            placeholder={way === "token" ? "Paste your API token" : "Password"}
            autoComplete={way === "token" ? "off" : "current-password"}
            spellCheck={false}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
          <button type="submit" className="primary" disabled={check.state === "checking"}>
            Sign in
          </button>
          {HAS_PASSKEYS && (
            <button type="button" onClick={onPasskey} disabled={check.state === "checking"}>
              Use a passkey
            </button>
          )}
          <button type="button" onClick={change}>
            {way === "token" ? "Use a password" : "Use a token"}
          </button>
          <Providers page={page} />
        </form>
      )}
    </header>
  );
}

function CodeForm({ step, onSecondFactor, onCancel }: { step: SecondStep; onSecondFactor(code: string | null): void; onCancel(): void }) {
  const [code, setCode] = useState("");

  function enter(event: FormEvent) {
    event.preventDefault();
    if (!code.trim()) return;
    setCode("");
    onSecondFactor(code.trim());
  }

  return (
    <form className="who" onSubmit={enter}>
      <span className={step.reason ? "problem" : "hint"} role="status">
        {step.reason ?? "Enter the code that your app shows, or a backup code."}
      </span>
      <input
        name="code"
        aria-label="Code"
        placeholder="Code"
        autoComplete="one-time-code"
        spellCheck={false}
        autoFocus
        value={code}
        onChange={(event) => setCode(event.target.value)}
      />
      <button type="submit" className="primary">
        Sign in
      </button>
      {HAS_PASSKEYS && step.hasPasskey && (
        <button type="button" onClick={() => onSecondFactor(null)}>
          Use a passkey
        </button>
      )}
      <button type="button" onClick={onCancel}>
        Cancel
      </button>
    </form>
  );
}

/** Whoever runs Trellis on this machine has the admin's token; others have a password. */
function startingWay(): "token" | "password" {
  const kept = localStorage.getItem(KEY);
  return kept === "token" || kept === "password" ? kept : ON_THIS_MACHINE ? "token" : "password";
}

function Lattice() {
  return (
    <svg viewBox="0 0 32 32" fill="none" stroke="currentColor" strokeWidth="2.6" strokeLinecap="round" height="1.3em" aria-hidden="true">
      <path d="M4 12 20 28M4 20 12 28M12 4 28 20M20 4 28 12M28 12 12 28M28 20 20 28M20 4 4 20M12 4 4 12" />
    </svg>
  );
}
