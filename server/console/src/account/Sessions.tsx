import { graphql, type Page } from "./api";
import { plural } from "./format";
import { useChange, usePages, useQuery } from "./hooks";
import { Confirm } from "./parts/Dialog";
import { List, Ready, Table } from "./parts/List";
import { Time } from "./parts/Time";

const SESSIONS = graphql`query Sessions {
  sessions { id createdAt lastActiveAt expiresAt ipAddress device browser userAgent isCurrent }
}`;
const HISTORY = graphql`query LoginHistory($first: Int!, $after: String) {
  viewer {
    loginEvents(first: $first, after: $after) {
      edges { node { id method succeeded reason ipAddress userAgent createdAt } }
      pageInfo { hasNextPage endCursor }
    }
  }
}`;
const REVOKE = graphql`mutation RevokeSession($input: RevokeSessionInput!) {
  revokeSession(input: $input) { ... on RevokeSessionPayload { sessionId } ...Problem }
}`;
const REVOKE_OTHERS = graphql`mutation RevokeOtherSessions {
  revokeOtherSessions { ... on RevokeOtherSessionsPayload { count } }
}`;

type Session = {
  id: string;
  createdAt: string;
  lastActiveAt: string;
  expiresAt: string;
  ipAddress: string | null;
  device: string | null;
  browser: string | null;
  userAgent: string | null;
  isCurrent: boolean;
};
type LoginEvent = { id: string; method: string; succeeded: boolean; reason: string | null; ipAddress: string | null; userAgent: string | null; createdAt: string };

const METHODS: Record<string, string> = { PASSWORD: "password", TOTP: "code of an app", BACKUP_CODE: "backup code", PASSKEY: "passkey", OAUTH: "provider" };
const historyOf = (data: { viewer: { loginEvents: Page<LoginEvent> } }) => data.viewer.loginEvents;

export function Sessions() {
  const sessions = useQuery<{ sessions: Session[] }>(SESSIONS);
  const history = usePages(HISTORY, historyOf);
  return (
    <>
      <section>
        <h2>Where you are signed in</h2>
        <Ready query={sessions}>{(data) => <Open sessions={data.sessions} reload={sessions.reload} />}</Ready>
      </section>
      <section>
        <h2>Sign-in history</h2>
        <List
          pages={history}
          caption="Attempts to sign in, newest first"
          columns={["When", "By", "Result", "Address", "Client"]}
          empty="Nobody has signed in with a password yet."
          row={(event) => ({
            key: event.id,
            cells: [
              <Time at={event.createdAt} />,
              METHODS[event.method] ?? event.method,
              event.succeeded ? <span className="success">signed in</span> : <span className="problem">{event.reason ?? "failed"}</span>,
              event.ipAddress ?? "–",
              <span className="agent">{event.userAgent ?? "–"}</span>,
            ],
          })}
        />
      </section>
    </>
  );
}

function Open({ sessions, reload }: { sessions: Session[]; reload(): void }) {
  const change = useChange();
  if (sessions.length === 0) return <p className="hint">You have no sessions.</p>;
  const others = sessions.filter((session) => !session.isCurrent).length;
  return (
    <>
      <Table
        caption="Sessions, the most recently used first"
        columns={["Device", "Browser", "Address", "Last used", "Signed in", "Ends", "Action"]}
        rows={sessions.map((session) => ({
          key: session.id,
          cells: [
            <span title={session.userAgent ?? undefined}>{session.device ?? "unknown"}</span>,
            session.browser ?? "unknown",
            session.ipAddress ?? "–",
            <Time at={session.lastActiveAt} />,
            <Time at={session.createdAt} />,
            <Time at={session.expiresAt} />,
            session.isCurrent ? (
              <span className="badge good">this one</span>
            ) : (
              <Confirm
                label="Revoke"
                about={nameOf(session)}
                title="Revoke this session?"
                text={`${nameOf(session)} is signed out at once.`}
                onConfirm={() => change(REVOKE, { id: session.id })}
                onDone={reload}
              />
            ),
          ],
        }))}
      />
      {others > 0 && sessions.some((session) => session.isCurrent) && (
        <Confirm
          label="Revoke all others"
          about="sessions"
          title="Revoke all other sessions?"
          text={`${plural(others, "session")} will end at once; this one stays.`}
          onConfirm={() => change(REVOKE_OTHERS)}
          onDone={reload}
        />
      )}
    </>
  );
}

function nameOf(session: Session): string {
  return `${session.browser ?? "A client"} on ${session.device ?? "an unknown device"} at ${session.ipAddress ?? "an unknown address"}`;
}
