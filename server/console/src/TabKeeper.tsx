import { pick, useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useRef } from "react";
import { carried, fill } from "./carry";
import { useCell } from "./store";
import { kept } from "./tutorials/kept";
import { activeTab } from "./tutorials/outcome";

/** Keeps GraphiQL's tabs in step with what is carried. Renders nothing. */
export function TabKeeper() {
  const actions = useGraphiQLActions();
  const { tabs, activeTabIndex, queryEditor, variableEditor, isFetching } = useGraphiQL(
    pick("tabs", "activeTabIndex", "queryEditor", "variableEditor", "isFetching"),
  );
  const news = useCell(carried);
  const ready = Boolean(queryEditor && variableEditor);

  // GraphiQL opens its editors on what was typed last, not on the active tab: the first tab would stand without its variables.
  const shown = useRef(false);
  useEffect(() => {
    if (!ready || shown.current) return;
    shown.current = true;
    actions.changeTab(activeTabIndex);
  }, [ready, actions, activeTabIndex]);

  const active = tabs[activeTabIndex]?.id ?? "";
  useEffect(() => activeTab.set(active), [active]);

  const done = useRef(news);
  useEffect(() => {
    if (!ready || isFetching || done.current === news) return;
    done.current = news;
    // A step of a tutorial has its variables from the steps before it, not from whatever was made last.
    const isOfStep = (id: string) => id in kept.get().tabs;
    const filled = tabs.map((tab, index) => {
      const variables = index === activeTabIndex || isOfStep(tab.id) ? null : fill(tab.variables ?? "", news);
      return variables === null ? tab : { ...tab, variables };
    });
    // The tabs know what is typed 100 ms later; until then the editors are right, and setting them anew must not undo it.
    const query = queryEditor?.getValue() ?? "";
    const typed = variableEditor?.getValue() ?? "";
    const variables = (isOfStep(active) ? null : fill(typed, news)) ?? typed;
    if (filled.some((tab, index) => tab !== tabs[index])) {
      const view = queryEditor?.saveViewState() ?? null;
      actions.moveTab(filled); // The one action that takes tabs other than the active one; it sets the editors anew.
      if (queryEditor?.getValue() !== query) queryEditor?.setValue(query);
      queryEditor?.restoreViewState(view);
    }
    if (variableEditor?.getValue() !== variables) {
      variableEditor?.setValue(variables);
      actions.updateActiveTabValues({ variables });
    }
  }, [ready, isFetching, news, tabs, active, activeTabIndex, queryEditor, variableEditor, actions]);

  return null;
}
