import { useState } from "react";
import { graphql, type Page } from "./api";
import { count } from "./format";
import { useChange, usePages, useQuery, useWho } from "./hooks";
import { NewKey, type Scope } from "./NewKey";
import { Confirm, Dialog } from "./parts/Dialog";
import { List, Ready } from "./parts/List";
import { Time } from "./parts/Time";

const KEYS = graphql`query ApiKeys($first: Int!, $after: String) {
  apiKeys(first: $first, after: $after) {
    edges { node { id name prefix scopes pointsPerMinute createdAt expiresAt lastUsedAt revokedAt owner { username } } }
    pageInfo { hasNextPage endCursor }
  }
}`;
const SCOPES = graphql`query ScopesOfKeys { __type(name: "ApiScope") { enumValues { name description } } }`;
const REVOKE = graphql`mutation RevokeApiKey($input: RevokeApiKeyInput!) {
  revokeApiKey(input: $input) { ... on RevokeApiKeyPayload { apiKey { id } } ...Problem }
}`;

export type Key = {
  id: string;
  name: string;
  prefix: string;
  scopes: string[];
  pointsPerMinute: number | null;
  createdAt: string;
  expiresAt: string | null;
  lastUsedAt: string | null;
  revokedAt: string | null;
  owner: { username: string };
};
const keysOf = (data: { apiKeys: Page<Key> }) => data.apiKeys;

export function Keys() {
  const keys = usePages(KEYS, keysOf);
  const scopes = useQuery<{ __type: { enumValues: Scope[] } }>(SCOPES);
  const [making, setMaking] = useState<Key | "new" | null>(null);
  const change = useChange();
  const who = useWho();
  return (
    <section>
      <p className="hint">A key lets a program act for you without your password, within its scopes. It is sent as Authorization: Bearer and the key.</p>
      <button type="button" className="primary" onClick={() => setMaking("new")}>
        New key
      </button>
      {making && (
        <Dialog title={making === "new" ? "New API key" : `Replace ${making.name}`} onClose={() => setMaking(null)}>
          <Ready query={scopes}>
            {(data) => <NewKey scopes={data.__type.enumValues} replaced={making === "new" ? null : making} onMade={keys.reload} onClose={() => setMaking(null)} />}
          </Ready>
        </Dialog>
      )}
      <List
        pages={keys}
        caption="API keys, newest first"
        columns={["Name", "Begins with", "Scopes", "Points a minute", "Expires", "Last used", "Action"]}
        empty="You have no API keys."
        row={(key) => ({
          key: key.id,
          cells: [
            <span>
              {key.name}
              {key.owner.username !== who.username && <small> of {key.owner.username}</small>}
            </span>,
            <code>{key.prefix}…</code>,
            key.scopes.join(", ").toLowerCase() || "none",
            key.pointsPerMinute === null ? "as your account" : count(key.pointsPerMinute),
            <Time at={key.expiresAt} none="never" />,
            <Time at={key.lastUsedAt} none="never" />,
            endOf(key) ?? (
              <span className="actions">
                {key.owner.username === who.username && (
                  <button type="button" aria-label={`Replace ${key.name} ${key.prefix}`} onClick={() => setMaking(key)}>
                    Replace
                  </button>
                )}
                <Confirm
                  label="Revoke"
                  about={`${key.name} ${key.prefix}`}
                  title={`Revoke ${key.name}?`}
                  text={`Programs that use ${key.prefix}… are refused at once, and for ever.`}
                  onConfirm={() => change(REVOKE, { id: key.id })}
                  onDone={keys.reload}
                />
              </span>
            ),
          ],
        })}
      />
    </section>
  );
}

function endOf(key: Key) {
  if (key.revokedAt !== null)
    return (
      <span className="problem">
        revoked <Time at={key.revokedAt} />
      </span>
    );
  return key.expiresAt !== null && Date.parse(key.expiresAt) < Date.now() ? <span className="problem">expired</span> : null;
}
