import { type ReactNode, useEffect, useState } from "react";
import { change, graphql } from "./api";
import { Field, Form } from "./parts/Form";
import { TeamInvitation } from "./TeamInvitation";

const VERIFY = graphql`mutation VerifyEmail($input: VerifyEmailInput!) {
  verifyEmail(input: $input) { ... on VerifyEmailPayload { email username } ...Problem }
}`;
const REQUEST_RESET = graphql`mutation RequestPasswordReset($input: RequestPasswordResetInput!) {
  requestPasswordReset(input: $input) { ... on RequestPasswordResetPayload { email } ...Problem }
}`;
const RESET = graphql`mutation ResetPassword($input: ResetPasswordInput!) {
  resetPassword(input: $input) { ... on ResetPasswordPayload { isChanged } ...Problem }
}`;
const REGISTER = graphql`mutation Register($input: RegisterInput!) {
  register(input: $input) { ... on RegisterPayload { email } ...Problem }
}`;

/** The pages that mails link to, with a token in the fragment, by their paths. Nobody has to be signed in. */
const PAGES: Record<string, { title: string; Page(props: { token: string | null }): ReactNode }> = {
  "/verify-email": { title: "Verify your address", Page: Verify },
  "/reset-password": { title: "Reset your password", Page: Reset },
  "/register": { title: "Register", Page: Register },
};

const INVITATION = "/accept-invitation"; // which only who is signed in can accept
export const isMailLink = (path: string) => path === INVITATION || path in PAGES;

/** The token leaves the address bar and the history at once. */
function takeToken(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname);
  return token;
}

export function MailLink({ path }: { path: string }) {
  const [token, setToken] = useState(takeToken);
  useEffect(() => {
    // A link that is opened where its page is open already changes the fragment alone.
    const follow = () => setToken((last) => takeToken() ?? last);
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const { title, Page } = PAGES[path] ?? { title: "Invitation to a team", Page: null };
  useEffect(() => void (document.title = `${title} · Trellis`), [title]);
  if (Page === null) return <TeamInvitation key={token} token={token} />;
  return (
    <>
      <header className="token-bar">
        <span className="brand">
          Trellis <a href="/account">Account</a>
        </span>
      </header>
      <main className="alone">
        <h1>{title}</h1>
        <section>
          <Page key={token} token={token} />
        </section>
      </main>
    </>
  );
}

function Done({ children }: { children: ReactNode }) {
  return (
    <>
      <p role="status" className="success">
        {children}
      </p>
      <a href="/account">Sign in</a>
    </>
  );
}

function Verify({ token }: { token: string | null }) {
  const [verified, setVerified] = useState<{ email: string; username: string } | null>(null);
  const [isTaken, setTaken] = useState(false);
  if (verified)
    return (
      <Done>
        {verified.email} is the address of {verified.username}.
      </Done>
    );
  return (
    <Form<{ email: string; username: string }>
      submit="Verify"
      places={{ NAME_TAKEN: "username" }}
      onSubmit={async (values) => {
        const outcome = await change<{ email: string; username: string }>(VERIFY, { token: values.get("token"), username: values.get("username") || null });
        if (outcome.problem?.code === "NAME_TAKEN") setTaken(true);
        return outcome;
      }}
      onDone={setVerified}
    >
      <Token token={token} />
      {isTaken && <Field name="username" label="Another username" autoComplete="username" hint="The one that you registered with was taken meanwhile." />}
    </Form>
  );
}

function Reset({ token }: { token: string | null }) {
  const [isDone, setDone] = useState(false);
  const [hasToken, setHasToken] = useState(token !== null);
  if (isDone) return <Done>Your password is changed, and all your sessions have ended.</Done>;
  if (!hasToken)
    return (
      <>
        <Form<{ email: string }>
          submit="Send a mail"
          done={({ email }) => `If ${email} is the address of an account, a mail goes there. Open its link.`}
          onSubmit={(values) => change(REQUEST_RESET, { email: values.get("email") })}
        >
          <Field name="email" label="E-mail address of your account" type="email" autoComplete="email" />
        </Form>
        <p>
          <button type="button" onClick={() => setHasToken(true)}>
            I have a token
          </button>
        </p>
      </>
    );
  return (
    <Form
      submit="Set password"
      places={{ WEAK_PASSWORD: "newPassword" }}
      onSubmit={(values) => change(RESET, { token: values.get("token"), newPassword: values.get("newPassword") })}
      onDone={() => setDone(true)}
    >
      <Token token={token} />
      <Field name="newPassword" label="New password" type="password" autoComplete="new-password" />
    </Form>
  );
}

function Register({ token }: { token: string | null }) {
  const [email, setEmail] = useState<string | null>(null);
  if (email) return <Done>A mail goes to {email}. There is an account once you open its link.</Done>;
  return (
    <Form<{ email: string }>
      submit="Register"
      places={{ NAME_TAKEN: "username", WEAK_PASSWORD: "password" }}
      onSubmit={(values) =>
        change(REGISTER, {
          email: values.get("email"),
          username: values.get("username"),
          fullName: values.get("fullName") || null,
          password: values.get("password"),
          invitationToken: token,
        })
      }
      onDone={(payload) => setEmail(payload.email)}
    >
      {token && <p>You were invited. The address must be the one that the invitation was sent to.</p>}
      <Field name="email" label="E-mail address" type="email" autoComplete="email" />
      <Field name="username" label="Username" autoComplete="username" hint="Public, and unique among all users." />
      <Field name="fullName" label="Full name" autoComplete="name" />
      <Field name="password" label="Password" type="password" autoComplete="new-password" hint="At least 10 characters." />
    </Form>
  );
}

/** Without a link, as where the operator set no public address, the token is typed. */
function Token({ token }: { token: string | null }) {
  return token === null ? <Field name="token" label="Token of the mail" autoComplete="off" /> : <input type="hidden" name="token" value={token} />;
}
