import { HAS_PASSKEYS, registerPasskey } from "../passkeys";
import { graphql } from "./api";
import { useChecked, useQuery } from "./hooks";
import { Confirm } from "./parts/Dialog";
import { Field, Form } from "./parts/Form";
import { Ready, Table } from "./parts/List";
import { Time } from "./parts/Time";

const PASSKEYS = graphql`query Passkeys { viewer { passkeys { id name isBackedUp createdAt lastUsedAt } } }`;
const REMOVE = graphql`mutation RemovePasskey($input: RemovePasskeyInput!) {
  removePasskey(input: $input) { ... on RemovePasskeyPayload { passkeyId } ...Problem }
}`;

type Passkey = { id: string; name: string; isBackedUp: boolean; createdAt: string; lastUsedAt: string | null };

export function Passkeys() {
  const passkeys = useQuery<{ viewer: { passkeys: Passkey[] } }>(PASSKEYS);
  const { change, ensureRecent } = useChecked();

  async function add(values: FormData) {
    if (!(await ensureRecent())) return { problem: { message: "Nothing was added: this takes your password." } };
    const reason = await registerPasskey(String(values.get("name")));
    return reason === null ? { payload: null } : { problem: { message: reason, code: "REFUSED" } };
  }

  return (
    <section>
      <h2>Passkeys</h2>
      <p className="hint">A passkey is kept by a device or a password manager. It signs you in without your password, and stands for a code.</p>
      <Ready query={passkeys}>
        {({ viewer }) =>
          viewer.passkeys.length > 0 ? (
            <Table
              caption="Passkeys, the newest first"
              columns={["Name", "Kept", "Added", "Last used", "Action"]}
              rows={viewer.passkeys.map((passkey) => ({
                key: passkey.id,
                cells: [
                  passkey.name,
                  passkey.isBackedUp ? "by a provider" : "on one device",
                  <Time at={passkey.createdAt} />,
                  <Time at={passkey.lastUsedAt} none="never" />,
                  <Confirm
                    label="Remove"
                    about={passkey.name}
                    title={`Remove ${passkey.name}?`}
                    text="It is not accepted any more. The device still has it: remove it there, too."
                    onConfirm={() => change(REMOVE, { id: passkey.id })}
                    onDone={passkeys.reload}
                  />,
                ],
              }))}
            />
          ) : (
            <p className="hint">You have no passkeys.</p>
          )
        }
      </Ready>
      {HAS_PASSKEYS ? (
        <Form label="Add a passkey" submit="Add a passkey" clears done="The passkey is added." places={{ REFUSED: "name" }} onSubmit={add} onDone={passkeys.reload}>
          <Field name="name" label="Name of the new passkey" autoComplete="off" hint="What you recognise it by, such as your device." />
        </Form>
      ) : (
        <p className="hint">This browser has no passkeys.</p>
      )}
    </section>
  );
}
