import { useGraphiQL } from "@graphiql/react";
import { useEffect, useRef } from "react";
import { Bar } from "../Bar";
import { useCell } from "../store";
import { stream } from "./stream";

const STATES = { open: "live", ended: "ended", failed: "broken off" };

/** The pane under the answer: every event of the tab's subscription, its progress and its curves. */
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
      {now.series.size > 0 && (
        <div className="live-curves">
          {[...now.series].map(([key, values]) => (
            <Curve key={key} name={key} values={values} />
          ))}
        </div>
      )}
      <ol ref={list}>
        {now.lines.map((line) => (
          <li key={line.number}>
            <time>{line.at}</time>
            <b className={`kind-${line.type.toLowerCase()}`}>{line.type}</b>
            <span>{line.text}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Curve({ name, values }: { name: string; values: number[] }) {
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  const points = values.map((value, index) => `${((index / Math.max(values.length - 1, 1)) * 100).toFixed(1)},${(27 - ((value - low) / span) * 24).toFixed(1)}`);
  return (
    <figure>
      <figcaption>
        {name} <b>{values.at(-1)?.toPrecision(4)}</b>
      </figcaption>
      <svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label={`${name}, ${values.length} points`}>
        {values.length === 1 ? <circle cx="50" cy="15" r="2" /> : <polyline points={points.join(" ")} />}
      </svg>
    </figure>
  );
}
