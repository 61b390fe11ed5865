import { explorerPlugin } from "@graphiql/plugin-explorer";
import { HISTORY_PLUGIN } from "@graphiql/plugin-history";
import { GraphiQL } from "graphiql";
import { useCallback, useEffect, useMemo, useState } from "react";
import { carry, carryFor, idsIn } from "./carry";
import { Live } from "./live/Live";
import { closed, opened, stopped, streamed } from "./live/stream";
import { PlanButton, PlanPane } from "./plan/PlanPane";
import { type Check, check as checkToken, forgetToken, keepToken, openSession } from "./session";
import { SessionContext } from "./SessionContext";
import { TabKeeper } from "./TabKeeper";
import { TABS } from "./tabs";
import { Theme } from "./Theme";
import { TokenBar } from "./TokenBar";
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
  const [token, setToken] = useState(openSession);
  const [check, setCheck] = useState<Check>({ state: token ? "checking" : "none" });

  useEffect(() => {
    if (!token) return;
    let current = true;
    void checkToken(token).then((answer) => {
      if (!current) return;
      if (answer.state === "viewer") {
        keepToken(token);
        carryFor(answer.viewer.username);
      }
      setCheck(answer);
    });
    return () => {
      current = false;
    };
  }, [token]);

  const client = useMemo(() => connect(token), [token]);
  useEffect(() => () => void client.dispose(), [client]);
  const fetcher = useMemo(() => fetcherFor(token, client, SEEN), [token, client]);
  const viewer = check.state === "viewer" ? check.viewer : null;
  const session = useMemo(() => ({ token, client, viewer }), [token, client, viewer]);

  const enter = useCallback((given: string) => {
    setCheck({ state: "checking" });
    setToken(given);
  }, []);
  const forget = useCallback(() => {
    forgetToken();
    setCheck({ state: "none" });
    setToken(null);
  }, []);

  return (
    <SessionContext value={session}>
      <TokenBar check={check} onEnter={enter} onForget={forget} />
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
