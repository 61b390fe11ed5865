import { type FormEvent, useState } from "react";
import { graphql, type Page } from "./api";
import { Diff } from "./Diff";
import { usePages, useWho } from "./hooks";
import { List } from "./parts/List";
import { Time } from "./parts/Time";

const EVENTS = graphql`query AuditEvents($first: Int!, $after: String, $filter: AuditEventFilter) {
  auditEvents(first: $first, after: $after, filter: $filter) {
    edges { node { id action subjectId before after origin ipAddress createdAt credentialId actor { username } owner { username } } }
    pageInfo { hasNextPage endCursor }
  }
}`;

type Values = Record<string, unknown> | null;
type Event = {
  id: string;
  action: string;
  subjectId: string | null;
  before: Values;
  after: Values;
  origin: string;
  ipAddress: string | null;
  createdAt: string;
  credentialId: string | null;
  actor: { username: string } | null;
  owner: { username: string } | null;
};
const eventsOf = (data: { auditEvents: Page<Event> }) => data.auditEvents;

export function Audit() {
  const [filter, setFilter] = useState<object | null>(null);
  const events = usePages(EVENTS, eventsOf, { filter });
  const who = useWho();

  function apply(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    setFilter(filterOf(new FormData(event.currentTarget)));
  }

  return (
    <section>
      <form className="filters" aria-label="Filter" onSubmit={apply} onReset={() => setFilter(null)}>
        <label className="field">
          Action
          <input name="action" placeholder="create_dataset" autoComplete="off" spellCheck={false} />
        </label>
        <label className="field">
          Id of what was changed
          <input name="subjectId" autoComplete="off" spellCheck={false} />
        </label>
        <label className="field">
          From
          <input name="gte" type="date" />
        </label>
        <label className="field">
          Until
          <input name="lt" type="date" />
        </label>
        <button type="submit" className="primary">
          Filter
        </button>
        <button type="reset">Show all</button>
      </form>
      <List
        pages={events}
        caption="Changes, newest first"
        columns={["When", "Action", "By", "Subject", "Change"]}
        empty={filter ? "Nothing was changed that this filter finds." : "Nothing was changed yet."}
        row={(event) => ({
          key: event.id,
          cells: [
            <Time at={event.createdAt} />,
            <span>
              <code>{event.action}</code>
              {event.owner && event.owner.username !== who.username && <small> for {event.owner.username}</small>}
            </span>,
            <span>
              {event.actor?.username ?? "nobody signed in"}
              <small className="block">
                {event.origin === "COMMAND_LINE" ? "command line" : event.ipAddress}
                {event.credentialId?.startsWith("apikey_") && ", by API key"}
              </small>
            </span>,
            <code>{event.subjectId ?? "–"}</code>,
            <Diff before={event.before} after={event.after} />,
          ],
        })}
      />
    </section>
  );
}

/** The days are the reader's; the last one is included. */
function filterOf(values: FormData): object | null {
  const text = (name: string) => String(values.get(name) ?? "").trim();
  const actions = text("action").split(/[\s,]+/).filter(Boolean);
  const createdAt = {
    ...(text("gte") && { gte: new Date(`${text("gte")}T00:00`).toISOString() }),
    ...(text("lt") && { lt: dayAfter(text("lt")).toISOString() }),
  };
  const filter = {
    ...(actions.length > 0 && { action: actions }),
    ...(text("subjectId") && { subjectId: text("subjectId") }),
    ...(Object.keys(createdAt).length > 0 && { createdAt }),
  };
  return Object.keys(filter).length > 0 ? filter : null;
}

function dayAfter(day: string): Date {
  const date = new Date(`${day}T00:00`);
  date.setDate(date.getDate() + 1);
  return date;
}
