import { useCallback, useEffect, useMemo, useState } from "react";
import { signInWithPasskey } from "./passkeys";
import { type Check, openSession, type SecondStep, signInByPassword, signInBySecondFactor, signInByToken, signOut, type Viewer } from "./session";

/** Who is signed in, and what the bar does about it. `onViewer` is called before a viewer is shown; it must not change. */
export function useSignIn(onViewer?: (viewer: Viewer) => void) {
  const [check, setCheck] = useState<Check>({ state: "checking" });

  const settle = useCallback(
    async (answer: Promise<Check>) => {
      setCheck({ state: "checking" });
      const now = await answer;
      if (now.state === "viewer") onViewer?.(now.viewer);
      setCheck(now);
    },
    [onViewer],
  );
  useEffect(() => void settle(openSession()), [settle]);

  const actions = useMemo(
    () => ({
      onToken: (token: string) => void settle(signInByToken(token)),
      onPassword: (login: string, password: string) => void settle(signInByPassword(login, password)),
      onPasskey: () => void settle(signInWithPasskey()),
      onSecondFactor: (step: SecondStep, code: string | null) => void settle(signInBySecondFactor(step, code)),
      // The viewer stays until it is done: what the form asks the API would meet a cookie that is just ending.
      onSignOut: () => void signOut().then((failure) => setCheck(failure ? { state: "refused", reason: failure } : { state: "none" })),
    }),
    [settle],
  );
  const askAgain = useCallback(() => void settle(openSession()), [settle]);
  /** Asks who the viewer is by now, while the page stays. */
  const refresh = useCallback(() => void openSession().then(setCheck), []);
  return { check, viewer: check.state === "viewer" ? check.viewer : null, actions, askAgain, refresh };
}
