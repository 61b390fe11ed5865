import type { MouseEvent } from "react";
import { graphql } from "./api";
import { useChecked, useQuery } from "./hooks";
import { Confirm } from "./parts/Dialog";
import { Ready, Table } from "./parts/List";
import { Time } from "./parts/Time";

const PROVIDERS = graphql`query Providers { signInProviders viewer { oauthIdentities { provider subject email linkedAt } } }`;
const UNLINK = graphql`mutation UnlinkOAuthIdentity($input: UnlinkOAuthIdentityInput!) {
  unlinkOAuthIdentity(input: $input) { ... on UnlinkOAuthIdentityPayload { viewer { id } } ...Problem }
}`;

type Identity = { provider: string; subject: string; email: string | null; linkedAt: string };
type Data = { signInProviders: string[]; viewer: { oauthIdentities: Identity[] } };

/** The identities at providers that open the account. Nothing is shown where there are neither providers nor identities. */
export function Providers() {
  const query = useQuery<Data>(PROVIDERS);
  const { change, ensureRecent } = useChecked();

  async function link(event: MouseEvent<HTMLAnchorElement>) {
    event.preventDefault();
    const { href } = event.currentTarget;
    if (await ensureRecent()) location.assign(href);
  }

  return (
    <Ready query={query}>
      {({ signInProviders, viewer: { oauthIdentities } }) => {
        const linked = new Set(oauthIdentities.map((identity) => identity.provider));
        const others = signInProviders.filter((provider) => !linked.has(provider));
        if (linked.size + others.length === 0) return null;
        return (
          <section>
            <h2>Providers</h2>
            {linked.size > 0 ? (
              <Table
                caption="Identities that sign you in"
                columns={["Provider", "Address there", "Id there", "Linked", "Action"]}
                rows={oauthIdentities.map((identity) => ({
                  key: identity.provider,
                  cells: [
                    identity.provider,
                    identity.email ?? "–",
                    <code>{identity.subject}</code>,
                    <Time at={identity.linkedAt} />,
                    <Confirm
                      label="Unlink"
                      about={identity.provider}
                      title={`Unlink ${identity.provider}?`}
                      text="It signs you in no more. Sessions that it began go on."
                      onConfirm={() => change(UNLINK, { provider: identity.provider })}
                      onDone={query.reload}
                    />,
                  ],
                }))}
              />
            ) : (
              <p className="hint">An identity at a provider signs you in without your password.</p>
            )}
            <div className="actions">
              {others.map((provider) => (
                <a key={provider} className="button" href={`/auth/${encodeURIComponent(provider)}/start?link=1&next=/account?tab=signing-in`} onClick={(event) => void link(event)}>
                  Link {provider}
                </a>
              ))}
            </div>
          </section>
        );
      }}
    </Ready>
  );
}
