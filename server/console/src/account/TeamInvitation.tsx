import { useState } from "react";
import { SignIn } from "../SignIn";
import { useSignIn } from "../useSignIn";
import { change, graphql } from "./api";
import { Field, Form } from "./parts/Form";

const ACCEPT = graphql`mutation AcceptInvitation($input: AcceptInvitationInput!) {
  acceptInvitation(input: $input) { ... on AcceptInvitationPayload { membership { role team { username fullName } } } ...Problem }
}`;
const DECLINE = graphql`mutation DeclineInvitation($input: DeclineInvitationInput!) {
  declineInvitation(input: $input) { ... on DeclineInvitationPayload { declinedId } ...Problem }
}`;

type Accepted = { membership: { role: string; team: { username: string; fullName: string | null } } };

/** What a mail that invites to a team links to. Who has the address signs in, and accepts or declines. */
export function TeamInvitation({ token }: { token: string | null }) {
  const { check, viewer, actions } = useSignIn();
  const [result, setResult] = useState<string | null>(null);
  return (
    <>
      <SignIn check={check} page="account" {...actions} />
      <main className="alone">
        <h1>Invitation to a team</h1>
        <section>
          {result ? (
            <>
              <p role="status" className="success">
                {result}
              </p>
              <a href="/account#teams">Your teams</a>
            </>
          ) : viewer ? (
            <Answer token={token} onResult={setResult} />
          ) : (
            <p>Sign in to accept it, with the account whose address the mail was sent to.</p>
          )}
        </section>
      </main>
    </>
  );
}

function Answer({ token, onResult }: { token: string | null; onResult(text: string): void }) {
  const [typed, setTyped] = useState("");
  const input = { token: token ?? typed.trim() };
  return (
    <>
      <Form<Accepted>
        submit="Accept"
        onSubmit={() => change<Accepted>(ACCEPT, input)}
        onDone={({ membership: { role, team } }) => onResult(`You are ${role} of ${team.fullName ?? team.username} now.`)}
      >
        {token === null && <Field name="token" label="Token of the mail" autoComplete="off" value={typed} onChange={(event) => setTyped(event.target.value)} />}
      </Form>
      <Form submit="Decline" onSubmit={() => change(DECLINE, input)} onDone={() => onResult("You declined the invitation.")} />
    </>
  );
}
