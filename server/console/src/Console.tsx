import { explorerPlugin } from "@graphiql/plugin-explorer";
import { HISTORY_PLUGIN } from "@graphiql/plugin-history";
import { GraphiQL } from "graphiql";
import { useEffect, useMemo } from "react";
import { carry, carryFor, idsIn } from "./carry";
import { connect, fetcherFor, type Observed } from "./fetcher";
import { Live } from "./live/Live";
import { closed, opened, stopped, streamed } from "./live/stream";
import { PlanButton, PlanPane } from "./plan/PlanPane";
import type { Viewer } from "./session";
import { SessionContext } from "./SessionContext";
import { SignIn } from "./SignIn";
import { TabKeeper } from "./TabKeeper";
import { TABS } from "./tabs";
import { Theme } from "./Theme";
import { keepFor } from "./tutorials/kept";
import { started } from "./tutorials/outcome";
import { TUTORIALS_PLUGIN } from "./tutorials/TutorialsPanel";
import { useSignIn } from "./useSignIn";
import { UPLOAD_PLUGIN } from "./upload/UploadPanel";

const PLUGINS = [HISTORY_PLUGIN, explorerPlugin({ showAttribution: false }), UPLOAD_PLUGIN, TUTORIALS_PLUGIN];
// Without these GraphiQL underlines every object given for a JSON scalar.
const SCALARS = { JSON: {}, BigInt: { type: ["integer" as const, "string" as const] }, DateTime: { type: "string" as const }, Duration: { type: "number" as const } };
const SEEN: Observed = {
  started,
  answered: (_operation, kind, result) => carry(idsIn(kind, result)),
  opened,
  streamed,
  closed,
  stopped,
};

function keepForViewer({ username }: Viewer) {
  carryFor(username);
  keepFor(username);
}

export function Console() {
  const { check, viewer, actions } = useSignIn(keepForViewer);
  // A websocket has the cookie of its handshake, so another viewer needs another one.
  const client = useMemo(connect, [viewer]);
  useEffect(() => () => void client.dispose(), [client]);
  const fetcher = useMemo(() => fetcherFor(client, SEEN), [client]);
  const session = useMemo(() => ({ client, viewer }), [client, viewer]);

  return (
    <SessionContext value={session}>
      <SignIn check={check} page="graphql" {...actions} />
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
