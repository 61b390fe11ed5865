import { useCallback, useEffect, useState } from "react";
import { SignIn } from "../SignIn";
import type { Viewer } from "../session";
import { useCell } from "../store";
import { useSignIn } from "../useSignIn";
import { Audit } from "./Audit";
import { graphql, signedOut } from "./api";
import { useQuery, WhoContext } from "./hooks";
import { Keys } from "./Keys";
import { Profile } from "./Profile";
import { Recheck } from "./Recheck";
import { Restore } from "./Restore";
import { Sessions } from "./Sessions";
import { SigningIn } from "./SigningIn";
import { Teams } from "./Teams";
import { Usage } from "./Usage";

const SECTIONS = [
  { id: "profile", title: "Profile", Section: Profile },
  { id: "sessions", title: "Sessions", Section: Sessions },
  { id: "keys", title: "API keys", Section: Keys },
  { id: "signing-in", title: "Signing in", Section: SigningIn },
  { id: "teams", title: "Teams", Section: Teams },
  { id: "usage", title: "Usage", Section: Usage },
  { id: "audit", title: "Audit", Section: Audit },
];
const SESSION = graphql`query CurrentSession { sessions { isCurrent } }`;
const REGISTRATION = graphql`query Registration { registration }`;

export function Account() {
  const { check, viewer, actions, askAgain, refresh } = useSignIn();
  const endings = useCell(signedOut);
  useEffect(() => {
    if (endings > 0) askAgain();
  }, [endings, askAgain]);
  return (
    <>
      <SignIn check={check} page="account" {...actions} />
      {viewer ? (
        <Recheck username={viewer.username}>
          <Sections viewer={viewer} refresh={refresh} />
        </Recheck>
      ) : (
        check.state !== "checking" && <SignedOut onRestored={askAgain} />
      )}
    </>
  );
}

function SignedOut({ onRestored }: { onRestored(): void }) {
  const [isRestoring, setRestoring] = useState(false);
  const { data } = useQuery<{ registration: string }>(REGISTRATION);
  return (
    <main className="signed-out">
      {isRestoring ? (
        <Restore onDone={onRestored} onCancel={() => setRestoring(false)} />
      ) : (
        <>
          <p>Sign in to see your account.</p>
          <p>
            <a href="/reset-password">Forgot your password?</a>
          </p>
          {data?.registration === "OPEN" && (
            <p>
              No account yet? <a href="/register">Register</a>
            </p>
          )}
          <button type="button" onClick={() => setRestoring(true)}>
            Restore a deleted account
          </button>
        </>
      )}
    </main>
  );
}

function Sections({ viewer, refresh }: { viewer: Viewer; refresh(): void }) {
  const [id, heading] = useSection();
  const { data } = useQuery<{ sessions: { isCurrent: boolean }[] }>(SESSION);
  const isSession = data === null || data.sessions.some((session) => session.isCurrent);
  const { title, Section } = SECTIONS.find((section) => section.id === id) ?? SECTIONS[0]!;
  useEffect(() => void (document.title = `${title} · Trellis account`), [title]);
  return (
    <WhoContext value={{ ...viewer, isSession, refresh }}>
      <div className="columns">
        <nav aria-label="Account">
          {SECTIONS.map((section) => (
            <a key={section.id} href={`#${section.id}`} aria-current={section.title === title ? "page" : undefined}>
              {section.title}
            </a>
          ))}
        </nav>
        <main>
          <h1 tabIndex={-1} ref={heading}>
            {title}
          </h1>
          {!isSession && (
            <p className="notice">You are signed in with an API key, which may read this but change nothing here. Sign out, and sign in with your password.</p>
          )}
          <Section />
        </main>
      </div>
    </WhoContext>
  );
}

/** A fragment names the section; `?tab=` does where fragments are not kept, as on the way back from a provider. */
function named(): string {
  return location.hash.slice(1) || (new URLSearchParams(location.search).get("tab") ?? "");
}

/** The section that the address names; who chooses another one is taken to its heading, as by a new page. */
function useSection() {
  const [id, setId] = useState(named);
  const [isChosen, setChosen] = useState(false);
  useEffect(() => {
    const follow = () => {
      setId(named());
      setChosen(true);
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const heading = useCallback((element: HTMLElement | null) => void (isChosen && element?.focus()), [id, isChosen]);
  return [id, heading] as const;
}
