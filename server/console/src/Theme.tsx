import { useGraphiQL, useGraphiQLActions, useMonaco } from "@graphiql/react";
import { useEffect } from "react";

const CLEAR = "#ffffff00";
const PANEL = "#212a3b";
const ACCENT = "#ff5794";
const TINT = "#ff579419";

/** GraphiQL's dark theme with comments bright enough to read, and the editors' theme in step with the system's. Renders nothing. */
export function Theme() {
  const monaco = useMonaco((state) => state.monaco);
  useEffect(() => {
    // The same name, because GraphiQL chooses it before this theme could be known; the editors take the new colours over at once.
    monaco?.editor.defineTheme("graphiql-DARK", {
      base: "vs-dark",
      inherit: true,
      rules: [
        { token: "comment", foreground: "9ccc8a" },
        { token: "argument.identifier.gql", foreground: "908aff" },
      ],
      colors: {
        "editor.background": CLEAR,
        "scrollbar.shadow": CLEAR,
        "textLink.foreground": ACCENT,
        "textLink.activeForeground": ACCENT,
        "editorLink.activeForeground": ACCENT,
        "editorHoverWidget.background": PANEL,
        "editorWidget.background": PANEL,
        "editorSuggestWidget.background": PANEL,
        "editorSuggestWidget.selectedBackground": TINT,
        "editorSuggestWidget.selectedForeground": ACCENT,
        "quickInput.background": PANEL,
        "menu.background": PANEL,
        "menu.selectionBackground": TINT,
        "menu.selectionForeground": ACCENT,
        "list.hoverBackground": TINT,
        "list.highlightForeground": ACCENT,
        "list.focusHighlightForeground": ACCENT,
        "input.background": "#b7c2d711",
        focusBorder: ACCENT,
      },
    });
  }, [monaco]);

  // GraphiQL asks the system once; its style sheets follow every change, its editors would not.
  const followsSystem = useGraphiQL((state) => state.theme === null);
  const { setTheme } = useGraphiQLActions();
  useEffect(() => {
    if (!followsSystem) return;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setTheme(null);
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, [followsSystem, setTheme]);
  return null;
}
