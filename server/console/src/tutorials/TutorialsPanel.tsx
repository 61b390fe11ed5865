import type { GraphiQLPlugin } from "@graphiql/react";
import { useContext, useEffect } from "react";
import { Bar } from "../Bar";
import { SessionContext } from "../SessionContext";
import { useCell } from "../store";
import { load, shown, type Tutorial } from "./api";
import { kept, show } from "./kept";
import { OneTutorial } from "./OneTutorial";

function TutorialsPanel() {
  const { viewer } = useContext(SessionContext);
  const { tutorials, problem } = useCell(shown);
  const open = useCell(kept).open;
  const chosen = tutorials?.find((tutorial) => tutorial.id === open);

  useEffect(() => {
    if (viewer) void load();
  }, [viewer]);

  return (
    <section className="tutorials" aria-label="Tutorials">
      {!viewer && (
        <>
          <h2>Tutorials</h2>
          <p className="hint">Sign in at the top first: what you have done is kept in your account.</p>
        </>
      )}
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      {viewer && tutorials && (chosen ? <OneTutorial tutorial={chosen} /> : <AllTutorials tutorials={tutorials} />)}
    </section>
  );
}

function AllTutorials({ tutorials }: { tutorials: Tutorial[] }) {
  return (
    <>
      <h2>Tutorials</h2>
      <ul className="choices">
        {tutorials.map((tutorial) => (
          <li key={tutorial.id}>
            <button type="button" onClick={() => show(tutorial.id)}>
              <strong>{tutorial.title}</strong>
              <span>{tutorial.summary}</span>
              <small>
                {levelOf(tutorial)} · {tutorial.minutes} min · <Progress {...tutorial.progress} />
              </small>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function Progress({ completedSteps, totalSteps }: Tutorial["progress"]) {
  if (completedSteps === 0) return <>{totalSteps} steps</>;
  return <Bar label="Progress" percent={(100 * completedSteps) / Math.max(totalSteps, 1)} />;
}

function levelOf({ level }: Tutorial): string {
  return level.charAt(0).toUpperCase() + level.slice(1).toLowerCase().replaceAll("_", " ");
}

function TutorialsIcon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" strokeLinejoin="round" height="1em" aria-hidden="true">
      <path d="m3 9 9-4 9 4-9 4-9-4Zm4 2v5c3 2.5 7 2.5 10 0v-5m4-2v6" />
    </svg>
  );
}

export const TUTORIALS_PLUGIN: GraphiQLPlugin = { title: "Tutorials", icon: TutorialsIcon, content: TutorialsPanel };
