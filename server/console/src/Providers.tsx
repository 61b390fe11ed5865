import { useEffect, useState } from "react";
import { post } from "./transport";

const NAMES: Record<string, string> = { google: "Google", github: "GitHub" };

type Props = {
  page: "graphql" | "account";
  /** Restore a deleted account, with this name if it is not empty. */
  restores?: { username: string };
};

/** Links to the providers by which one can sign in here; the server sends the browser on, and back to this page. */
export function Providers({ page, restores }: Props) {
  const [providers, setProviders] = useState<string[]>([]);
  useEffect(() => {
    let isShown = true;
    // Without an answer there are the other ways to sign in.
    post<{ signInProviders: string[] }>({ query: "query SignInProviders { signInProviders }" }).then(
      (result) => isShown && setProviders(result.data?.signInProviders ?? []),
      () => undefined,
    );
    return () => void (isShown = false);
  }, []);
  return providers.map((provider) => {
    const name = NAMES[provider] ?? provider;
    const label = restores ? `Restore with ${name}` : `Sign in with ${name}`;
    const username = restores?.username ? `&username=${encodeURIComponent(restores.username)}` : "";
    return (
      <a
        key={provider}
        className="button"
        href={`/auth/${provider}/start?next=/${page}${restores ? `&restore=1${username}` : ""}`}
        aria-label={label}
        title={label}
      >
        {restores ? label : name}
      </a>
    );
  });
}
