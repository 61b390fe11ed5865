import { ToolbarButton, useGraphiQL } from "@graphiql/react";
import { useEffect } from "react";
import { useCell } from "../store";
import { asked, type Figures, type Step, shown, toggle } from "./plan";

export function PlanButton() {
  const on = useCell(asked);
  return (
    <ToolbarButton label={on ? "Hide plan" : "Show plan"} aria-pressed={on} onClick={toggle}>
      <svg viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.4" className="graphiql-toolbar-icon" aria-hidden="true">
        <path d="M2 3h7M4.5 3v9.5M4.5 7.5H12M4.5 12.5H12" />
      </svg>
    </ToolbarButton>
  );
}

/** The pane under the answer: how the API executed the tab's operation. */
export function PlanPane() {
  const on = useCell(asked);
  const now = useCell(shown);
  const tab = useGraphiQL((state) => state.tabs[state.activeTabIndex]?.id ?? "");
  useEffect(() => {
    if (now?.tab === null) shown.set({ ...now, tab });
  }, [now, tab]);
  if (!on) return null;
  const plan = now?.tab === tab ? now.plan : undefined;
  return (
    <section className="plan" aria-label="Plan">
      <header>
        <strong>Plan</strong>
        {plan && <Measured of={plan} />}
        <button type="button" onClick={toggle} aria-label="Close plan">
          ✕
        </button>
      </header>
      {plan === undefined && <p>Run a query or a mutation to see how it is executed.</p>}
      {plan === null && <p>The API shows plans to admins, and to everybody where TRELLIS_SHOW_PLANS is true.</p>}
      {plan?.unplanned && <p>The API executed it field by field: {plan.unplanned}.</p>}
      {plan && plan.steps.length > 0 && <Steps of={plan.steps} />}
    </section>
  );
}

function Steps({ of }: { of: Step[] }) {
  return (
    <ul>
      {of.map((step, index) => (
        <li key={index}>
          {step.steps.length === 0 ? (
            <Row of={step} />
          ) : (
            <details open>
              <summary>
                <Row of={step} />
              </summary>
              <Steps of={step.steps} />
            </details>
          )}
        </li>
      ))}
    </ul>
  );
}

function Row({ of: step }: { of: Step }) {
  return (
    <span className="step">
      <b title={step.edge}>{step.name}</b>
      <span>
        {step.reads}
        {(step.objects ?? 0) > 1 && ` for ${step.objects} objects`}
      </span>
      <Measured of={step} />
    </span>
  );
}

function Measured({ of }: { of: Figures }) {
  return (
    <span className="figures">
      {counted(of.statements, "statement")}, {counted(of.rows, "row")}, {of.milliseconds.toFixed(1)} ms (database {of.databaseMilliseconds.toFixed(1)}, own{" "}
      {of.ownMilliseconds.toFixed(1)})
    </span>
  );
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
