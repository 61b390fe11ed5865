import { useRef, useState } from "react";

/** A secret that is shown once, with a button that copies it. */
export function Copy({ label, value }: { label: string; value: string }) {
  const field = useRef<HTMLInputElement>(null);
  const [status, setStatus] = useState("");

  async function copy() {
    try {
      await navigator.clipboard.writeText(value);
      setStatus("Copied.");
    } catch {
      // Without TLS or the permission, scripts do not reach the clipboard.
      field.current?.select();
      setStatus("The browser does not allow it: press Ctrl+C.");
    }
  }

  return (
    <div className="copy">
      <input ref={field} readOnly aria-label={label} value={value} onFocus={(event) => event.target.select()} />
      <button type="button" onClick={() => void copy()}>
        Copy
      </button>
      <span role="status" className="hint">
        {status}
      </span>
    </div>
  );
}
