import { pick, useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useRef } from "react";
import type { Step, Tutorial } from "./api";
import { bind, kept } from "./kept";
import { filled, placesOf, refilled } from "./variables";

/** Opens the tab of a step: a new one, or that which shows it already, with what its variables have lacked. */
export function useStepTabs({ id: tutorialId, steps }: Tutorial): (step: Step) => void {
  const actions = useGraphiQLActions();
  const { tabs, activeTabIndex, queryEditor, variableEditor } = useGraphiQL(pick("tabs", "activeTabIndex", "queryEditor", "variableEditor"));
  const adding = useRef<{ step: Step; before: number } | null>(null);

  // A new tab has its id only when it stands.
  useEffect(() => {
    if (!adding.current || tabs.length <= adding.current.before) return;
    const { step } = adding.current;
    adding.current = null;
    const variables = variablesOf(step);
    const query = `# ${steps.indexOf(step) + 1} of ${steps.length} · ${step.title}\n${step.document}`;
    write(activeTabIndex, step, query, variables, variables ? JSON.stringify(variables, null, 2) : "");
  }, [tabs, activeTabIndex]);

  function variablesOf({ variables }: Step): unknown {
    return variables && filled(variables, kept.get().values[tutorialId] ?? {});
  }

  function write(index: number, step: Step, query: string, variables: unknown, text: string) {
    const bound = { tutorialId, stepKey: step.key, document: step.document ?? "", variables, taken: placesOf(step.key, steps) };
    const ids = tabs.map(({ id }) => id);
    bind(ids[index] ?? "", bound, new Set(ids));
    if (queryEditor?.getValue() !== query) queryEditor?.setValue(query);
    if (variableEditor?.getValue() !== text) variableEditor?.setValue(text);
    actions.updateActiveTabValues({ query, variables: text });
    document.getElementById(`graphiql-session-tab-${index}`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    queryEditor?.focus();
  }

  return (step) => {
    for (const [index, { id }] of tabs.entries()) {
      const bound = kept.get().tabs[id];
      // A release may have changed the document since.
      if (bound?.tutorialId !== tutorialId || bound.stepKey !== step.key || bound.document !== step.document) continue;
      if (index !== activeTabIndex) actions.changeTab(index); // Which sets the editors at once.
      const variables = variablesOf(step);
      write(index, step, queryEditor?.getValue() ?? "", variables, retext(variableEditor?.getValue() ?? "", bound.variables, variables));
      return;
    }
    adding.current = { step, before: tabs.length };
    actions.addTab();
  };
}

/** A text that is no JSON stays as it is. */
function retext(text: string, before: unknown, now: unknown): string {
  try {
    const written: unknown = JSON.parse(text);
    const variables = refilled(written, before, now);
    return JSON.stringify(variables) === JSON.stringify(written) ? text : JSON.stringify(variables, null, 2);
  } catch {
    return text;
  }
}
