import { useEffect, useState } from "react";
import { post } from "./transport";

const NAMES: Record<string, string> = { google: "Google", github: "GitHub" };

/** Links to the providers by which one can sign in here; the server sends the browser on, and back to this page. */
export function Providers({ page }: { page: "graphql" | "account" }) {
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
    return (
      <a
        key={provider}
        className="button"
        href={`/auth/${provider}/start?next=/${page}`}
        aria-label={`Sign in with ${name}`}
        title={`Sign in with ${name}`}
      >
        {name}
      </a>
    );
  });
}
