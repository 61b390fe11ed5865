import { useState } from "react";
import { graphql } from "./api";
import { useChange, useWho } from "./hooks";
import type { Key } from "./Keys";
import { Copy } from "./parts/Copy";
import { Checks, Field, Form, Select } from "./parts/Form";

const CREATE = graphql`mutation CreateApiKey($input: CreateApiKeyInput!) {
  createApiKey(input: $input) { ... on CreateApiKeyPayload { secret apiKey { name } } ...Problem }
}`;
const OVERLAPS: [string, string][] = [
  ["0", "at once"],
  ["3600", "in an hour"],
  ["86400", "in a day"],
  ["604800", "in a week"],
  ["2592000", "in 30 days"],
];
const READING = ["READ", "ACCOUNT", "BILLING"];

export type Scope = { name: string; description: string };
type Made = { secret: string; apiKey: { name: string } };
type Props = { scopes: Scope[]; replaced: Key | null; onMade(): void; onClose(): void };

/** The form for a key, then its secret. A key that replaces another one begins with its name, scopes and points. */
export function NewKey({ scopes, replaced, onMade, onClose }: Props) {
  const [made, setMade] = useState<Made | null>(null);
  const change = useChange();
  const { role } = useWho();
  const allowed = scopes.filter(({ name }) => role === "ADMIN" || (role === "VIEWER" ? READING.includes(name) : name !== "ADMIN"));

  if (made)
    return (
      <>
        <p>
          This is the secret of <strong>{made.apiKey.name}</strong>. It is shown only now: store it where your program finds it.
        </p>
        <Copy label="Secret of the key" value={made.secret} />
        <div className="actions">
          <button type="button" className="primary" onClick={onClose}>
            I have stored it
          </button>
        </div>
      </>
    );

  return (
    <Form<Made>
      submit={replaced ? "Replace key" : "Create key"}
      onSubmit={(values) => change<Made>(CREATE, inputOf(values, replaced))}
      onDone={(payload) => {
        setMade(payload);
        onMade();
      }}
      onCancel={onClose}
    >
      <Field name="name" label="Name" defaultValue={replaced?.name} autoFocus autoComplete="off" hint="What it is for, such as the program that uses it." />
      <Checks
        name="scopes"
        label="Scopes"
        options={allowed.map(({ name, description }) => ({ value: name, text: name.toLowerCase(), hint: description }))}
        chosen={replaced?.scopes ?? ["READ"]}
      />
      <Field name="expiresAt" label="Expires" type="datetime-local" hint="Empty: it does not expire." />
      <Field
        name="pointsPerMinute"
        label="Points a minute"
        type="number"
        min={1}
        defaultValue={replaced?.pointsPerMinute ?? ""}
        hint="At most so many of your account's points. Empty: all of them."
      />
      {replaced && <Select name="overlap" label="The old key ends" options={OVERLAPS} defaultValue="86400" />}
    </Form>
  );
}

function inputOf(values: FormData, replaced: Key | null): object {
  const expiresAt = String(values.get("expiresAt"));
  const points = String(values.get("pointsPerMinute"));
  return {
    name: values.get("name"),
    scopes: values.getAll("scopes"),
    expiresAt: expiresAt ? new Date(expiresAt).toISOString() : null,
    pointsPerMinute: points ? Number(points) : null,
    ...(replaced && { replaces: replaced.id, overlap: Number(values.get("overlap")) }),
  };
}
