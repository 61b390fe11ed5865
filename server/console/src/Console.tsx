import { explorerPlugin } from "@graphiql/plugin-explorer";
import { HISTORY_PLUGIN } from "@graphiql/plugin-history";
import { GraphiQL } from "graphiql";
import { useCallback, useEffect, useMemo, useState } from "react";
import { carry, carryFor, idsIn } from "./carry";
import { Live } from "./live/Live";
import { closed, opened, stopped, streamed } from "./live/stream";
import { PlanButton, PlanPane } from "./plan/PlanPane";
import { type Check, openSession, signInByCode, signInByPassword, signInByToken, signOut } from "./session";
import { SessionContext } from "./SessionContext";
import { SignIn } from "./SignIn";
import { TabKeeper } from "./TabKeeper";
import { TABS } from "./tabs";
import { Theme } from "./Theme";
import { connect, fetcherFor, type Observed } from "./transport";
import { UPLOAD_PLUGIN } from "./upload/UploadPanel";

const PLUGINS = [HISTORY_PLUGIN, explorerPlugin({ showAttribution: false }), UPLOAD_PLUGIN];
// Without these GraphiQL underlines every object given for a JSON scalar.
const SCALARS = { JSON: {}, BigInt: { type: ["integer" as const, "string" as const] }, DateTime: { type: "string" as const }, Duration: { type: "number" as const } };
const SEEN: Observed = {
  answered: (_operation, kind, result) => carry(idsIn(kind, result)),
  opened,
  streamed,
  closed,
  stopped,
};

export function Console() {
  const [check, setCheck] = useState<Check>({ state: "checking" });

  const settle = useCallback(async (answer: Promise<Check>) => {
    setCheck({ state: "checking" });
    const now = await answer;
    if (now.state === "viewer") carryFor(now.viewer.username);
    setCheck(now);
  }, []);
  useEffect(() => void settle(openSession()), [settle]);

  const viewer = check.state === "viewer" ? check.viewer : null;
  // A websocket has the cookie of its handshake, so another viewer needs another one.
  const client = useMemo(connect, [viewer]);
  useEffect(() => () => void client.dispose(), [client]);
  const fetcher = useMemo(() => fetcherFor(client, SEEN), [client]);
  const session = useMemo(() => ({ client, viewer }), [client, viewer]);

  const leave = useCallback(async () => {
    const failure = await signOut();
    setCheck(failure ? { state: "refused", reason: failure } : { state: "none" });
  }, []);

  return (
    <SessionContext value={session}>
      <SignIn
        check={check}
        onToken={(token) => void settle(signInByToken(token))}
        onPassword={(login, password) => void settle(signInByPassword(login, password))}
        onCode={(challenge, code) => void settle(signInByCode(challenge, code))}
        onSignOut={() => void leave()}
      />
      <GraphiQL
        fetcher={fetcher}
        // Asking for the schema as nobody would only bring an error to look at; it is asked for as soon as a viewer is known.
        schema={viewer ? undefined : null}
        plugins={PLUGINS}
        defaultTabs={TABS}
        defaultEditorToolsVisibility="variables"
        customScalarSchemas={SCALARS}
        inputValueDeprecation
        showPersistHeadersSettings={false}
      >
        <GraphiQL.Logo> </GraphiQL.Logo>
        <GraphiQL.Footer>
          <PlanPane />
          <Live />
        </GraphiQL.Footer>
        <GraphiQL.Toolbar>
          {({ prettify, merge, copy }) => (
            <>
              {prettify}
              {merge}
              {copy}
              <PlanButton />
            </>
          )}
        </GraphiQL.Toolbar>
        <TabKeeper />
        <Theme />
      </GraphiQL>
    </SessionContext>
  );
}
