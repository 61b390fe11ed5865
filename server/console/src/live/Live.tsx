import { useGraphiQL } from "@graphiql/react";
import { useEffect, useRef } from "react";
import { Bar } from "../Bar";
import { useCell } from "../store";
import { Metrics } from "./Metrics";
import { stream } from "./stream";

const STATES = { open: "live", ended: "ended", stopped: "stopped watching", failed: "broken off" };

/** The pane under the answer: what the tab's subscription has said so far, as lines or, of metrics, as curves. */
export function Live() {
  const now = useCell(stream);
  const tab = useGraphiQL((state) => state.tabs[state.activeTabIndex]?.id ?? "");
  useEffect(() => {
    if (now?.tab === null) stream.set({ ...now, tab });
  }, [now, tab]);
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [now?.count]);
  if (now?.tab !== tab) return null;
  return (
    <section className="live" aria-label="Live events">
      <header>
        <strong>{now.name}</strong>
        <span className={`live-state ${now.state}`}>{STATES[now.state]}</span>
        <span>
          {now.count} {now.count === 1 ? "event" : "events"}
        </span>
        {now.progress !== null && <Bar label="Progress" percent={now.progress} />}
        <button type="button" onClick={() => stream.set(null)} aria-label="Close live events">
          ✕
        </button>
      </header>
      {now.failure && <p className="problem">{now.failure}</p>}
      {now.series.size > 0 && <Metrics series={now.series} />}
      {now.lines.length > 0 && (
        <ol ref={list}>
          {now.lines.map((line) => (
            <li key={line.number}>
              <time>{line.at}</time>
              <b className={`kind-${line.type.toLowerCase()}`}>{line.type}</b>
              <span>{line.text}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
