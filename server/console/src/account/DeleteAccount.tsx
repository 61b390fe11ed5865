import { useState } from "react";
import { graphql } from "./api";
import { useChange } from "./hooks";
import { Dialog } from "./parts/Dialog";
import { Field, Form } from "./parts/Form";
import { Time } from "./parts/Time";

const DELETE = graphql`mutation DeleteAccount($input: DeleteAccountInput!) {
  deleteAccount(input: $input) { ... on DeleteAccountPayload { restorableUntil } ...Problem }
}`;

type Deleted = { restorableUntil: string };

export function DeleteAccount() {
  const [isOpen, setOpen] = useState(false);
  const [deleted, setDeleted] = useState<Deleted | null>(null);
  const change = useChange();
  const leave = () => location.assign("/account");
  return (
    <section>
      <h2>Delete the account</h2>
      <p className="hint">Your datasets, pipelines, models and keys go with it. You can restore it for some time.</p>
      <button type="button" className="danger" onClick={() => setOpen(true)}>
        Delete my account
      </button>
      {deleted ? (
        <Dialog title="Your account is deleted" onClose={leave}>
          <p>
            Until <Time at={deleted.restorableUntil} /> you can restore it on the page where you sign in. Its API keys stay revoked.
          </p>
          <button type="button" className="primary" onClick={leave}>
            Close
          </button>
        </Dialog>
      ) : (
        isOpen && (
          <Dialog title="Delete your account?" onClose={() => setOpen(false)}>
            <Form<Deleted>
              submit="Delete my account"
              isDanger
              places={{ INVALID_CREDENTIALS: "password" }}
              onSubmit={(values) => change<Deleted>(DELETE, { password: values.get("password") || null })}
              onDone={setDeleted}
              onCancel={() => setOpen(false)}
            >
              <p>You are signed out everywhere, your API keys are revoked, and your address and username are free for others.</p>
              <Field name="password" label="Password" type="password" autoComplete="current-password" autoFocus hint="Without one, sign in again just before." />
            </Form>
          </Dialog>
        )
      )}
    </section>
  );
}
