import { Bar } from "../Bar";
import { useCell } from "../store";
import { complete, reset, type Step, type Tutorial } from "./api";
import { forget, kept, show } from "./kept";
import { Markdown } from "./Markdown";
import { useStepTabs } from "./useStepTabs";
import { lacking } from "./variables";

/** The steps of a tutorial; the first that is not done is unfolded. */
export function OneTutorial({ tutorial }: { tutorial: Tutorial }) {
  const { steps, progress } = tutorial;
  const openStep = useStepTabs(tutorial);
  const next = steps.findIndex((step) => !step.isCompleted);

  async function startAgain() {
    if (await reset(tutorial.id)) forget(tutorial.id);
  }

  return (
    <>
      <div className="row">
        <button type="button" onClick={() => show(null)}>
          All tutorials
        </button>
        {progress.completedSteps > 0 && (
          <button type="button" onClick={() => void startAgain()}>
            Start again
          </button>
        )}
      </div>
      <h2>{tutorial.title}</h2>
      <p>{tutorial.summary}</p>
      <p className="row" role="status">
        <Bar label="Progress" percent={(100 * progress.completedSteps) / Math.max(progress.totalSteps, 1)} />
        <span>
          {progress.completedSteps} of {progress.totalSteps} steps are done.
        </span>
      </p>
      <ol className="steps">
        {steps.map((step, index) => (
          <li key={step.key}>
            <details open={index === next}>
              <summary>
                <span className="tick" role="img" aria-label={step.isCompleted ? "Done" : "Not done"}>
                  {step.isCompleted ? "✓" : "○"}
                </span>{" "}
                {index + 1}. {step.title}
              </summary>
              <Markdown text={step.body} />
              <Lacking step={step} tutorial={tutorial} />
              <div className="row">
                {step.document !== null && (
                  <button type="button" className="primary" onClick={() => openStep(step)}>
                    Open in a tab
                  </button>
                )}
                {step.document === null && !step.isCompleted && (
                  <button type="button" className="primary" onClick={() => void complete(tutorial.id, step.key)}>
                    Done
                  </button>
                )}
              </div>
            </details>
          </li>
        ))}
      </ol>
    </>
  );
}

/** Which steps give the values that this one still lacks. */
function Lacking({ step, tutorial }: { step: Step; tutorial: Tutorial }) {
  const values = useCell(kept).values[tutorial.id] ?? {};
  return lacking(step, values).map(([name, giver]) => {
    const index = tutorial.steps.findIndex((one) => one.key === giver);
    const from = tutorial.steps[index];
    return (
      <p key={name} className="hint">
        <code>${name}</code> comes from {from ? `step ${index + 1}, “${from.title}”` : `the step ${giver}`}
        {from?.isCompleted ? ": run it once more in this browser, or write the value below the document." : ": run it first."}
      </p>
    );
  });
}
