import { type FormEvent, useState } from "react";
import type { Check } from "./session";

type Props = { check: Check; onEnter(token: string): void; onForget(): void };

export function TokenBar({ check, onEnter, onForget }: Props) {
  const [text, setText] = useState("");

  function enter(event: FormEvent) {
    event.preventDefault();
    const token = text.trim().replace(/^Bearer\s+/i, "");
    if (!token) return;
    setText("");
    onEnter(token);
  }

  return (
    <header className="token-bar">
      <span className="brand">
        <Lattice /> Trellis
      </span>
      {check.state === "viewer" ? (
        <div className="who">
          <span>
            Signed in as <strong>{check.viewer.username}</strong> <span className="role">{check.viewer.role}</span>
          </span>
          <button type="button" onClick={onForget}>
            Forget token
          </button>
        </div>
      ) : (
        <form className="who" onSubmit={enter}>
          <span className={check.state === "refused" ? "problem" : "hint"} role="status">
            {check.state === "refused" ? check.reason : check.state === "checking" ? "Asking who you are …" : "The admin's token lies in the file admin-token of the data folder."}
          </span>
          <input
            type="password"
            name="token"
            aria-label="API token"
            placeholder="Paste your API token"
            autoComplete="off"
            spellCheck={false}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
          <button type="submit" className="primary" disabled={check.state === "checking"}>
            Sign in
          </button>
        </form>
      )}
    </header>
  );
}

function Lattice() {
  return (
    <svg viewBox="0 0 32 32" fill="none" stroke="currentColor" strokeWidth="2.6" strokeLinecap="round" height="1.3em" aria-hidden="true">
      <path d="M4 12 20 28M4 20 12 28M12 4 28 20M20 4 28 12M28 12 12 28M28 20 20 28M20 4 4 20M12 4 4 12" />
    </svg>
  );
}
