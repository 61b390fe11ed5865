import { createContext, type FormEvent, type InputHTMLAttributes, type ReactNode, useContext, useId, useState } from "react";
import { messageOf, type Outcome, type Problem } from "../api";

const Problems = createContext<Record<string, string>>({});

type FormProps<T> = {
  submit: string;
  /** Shown when it is done. */
  done?: string | ((payload: T) => string);
  /** The fields that problems without a path are about, by code. */
  places?: Record<string, string>;
  /** Whether the fields are emptied when it is done. */
  clears?: boolean;
  isDanger?: boolean;
  label?: string;
  onSubmit(values: FormData): Promise<Outcome<T>>;
  onDone?(payload: T): void;
  onCancel?(): void;
  children?: ReactNode;
};

/** A form that runs a mutation. Each problem is shown beside the field that it is about, the others above the button. */
export function Form<T>({ submit, done, places = {}, clears = false, isDanger = false, label, onSubmit, onDone, onCancel, children }: FormProps<T>) {
  const [problems, setProblems] = useState<Record<string, string>>({});
  const [status, setStatus] = useState<{ text: string; isProblem: boolean } | null>(null);
  const [isBusy, setBusy] = useState(false);

  async function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (isBusy) return;
    const form = event.currentTarget;
    setBusy(true);
    setStatus(null);
    setProblems({});
    const { payload, problem } = await onSubmit(new FormData(form)).catch((error: unknown): Outcome<T> => ({ problem: { message: messageOf(error) } }));
    setBusy(false);
    if (problem) {
      const [byField, rest] = sort(problem, places, form);
      setProblems(byField);
      setStatus(rest ? { text: rest, isProblem: true } : null);
      const first = form.elements.namedItem(Object.keys(byField)[0] ?? "");
      if (first instanceof HTMLElement) first.focus();
      return;
    }
    if (clears) form.reset();
    if (done) setStatus({ text: typeof done === "string" ? done : done(payload as T), isProblem: false });
    onDone?.(payload as T);
  }

  return (
    <form onSubmit={(event) => void send(event)} aria-label={label} noValidate>
      <Problems value={problems}>{children}</Problems>
      <p role="status" className={status?.isProblem ? "problem" : "success"}>
        {status?.text}
      </p>
      <div className="actions">
        <button type="submit" className={isDanger ? "danger" : "primary"} disabled={isBusy}>
          {submit}
        </button>
        {onCancel && (
          <button type="button" onClick={onCancel}>
            Cancel
          </button>
        )}
      </div>
    </form>
  );
}

/** The problems by field, and what is about none of the form's fields. */
function sort(problem: Problem, places: Record<string, string>, form: HTMLFormElement): [Record<string, string>, string] {
  const byField: Record<string, string> = {};
  const rest: string[] = [];
  const issues = problem.issues?.length ? problem.issues : [{ path: [places[problem.code ?? ""] ?? ""], message: problem.message }];
  for (const { path, message } of issues) {
    const field = path.find((part) => part && form.elements.namedItem(part) !== null);
    if (field === undefined) rest.push(message);
    else byField[field] = byField[field] ? `${byField[field]} ${message}` : message;
  }
  return [byField, rest.join(" ")];
}

type FieldProps = InputHTMLAttributes<HTMLInputElement> & { name: string; label: string; hint?: string };

export function Field({ name, label, hint, ...input }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} name={name} spellCheck={false} {...input} {...useDescription(name, id, hint)} />
      <Notes name={name} id={id} hint={hint} />
    </div>
  );
}

type SelectProps = { name: string; label: string; hint?: string; options: [value: string, text: string][]; defaultValue?: string };

export function Select({ name, label, hint, options, defaultValue }: SelectProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} name={name} defaultValue={defaultValue} {...useDescription(name, id, hint)}>
        {options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
      <Notes name={name} id={id} hint={hint} />
    </div>
  );
}

type ChecksProps = { name: string; label: string; options: { value: string; text: string; hint: string }[]; chosen: string[] };

/** Check boxes for a list of values. */
export function Checks({ name, label, options, chosen }: ChecksProps) {
  const id = useId();
  return (
    <fieldset className="field" {...useDescription(name, id)}>
      <legend>{label}</legend>
      {options.map(({ value, text, hint }) => (
        <label key={value} className="check">
          <input
            type="checkbox"
            name={name}
            value={value}
            defaultChecked={chosen.includes(value)}
            aria-labelledby={`${id}-${value}`}
            aria-describedby={`${id}-${value}-hint`}
          />
          <span>
            <b id={`${id}-${value}`}>{text}</b> <small id={`${id}-${value}-hint`}>{hint}</small>
          </span>
        </label>
      ))}
      <Notes name={name} id={id} />
    </fieldset>
  );
}

function useDescription(name: string, id: string, hint?: string) {
  const problem = useContext(Problems)[name];
  const ids = [problem && `${id}-problem`, hint && `${id}-hint`].filter(Boolean).join(" ");
  return { "aria-invalid": problem ? true : undefined, "aria-describedby": ids || undefined } as const;
}

function Notes({ name, id, hint }: { name: string; id: string; hint?: string }) {
  const problem = useContext(Problems)[name];
  return (
    <>
      {problem && (
        <small id={`${id}-problem`} className="problem" role="alert">
          {problem}
        </small>
      )}
      {hint && (
        <small id={`${id}-hint`} className="hint">
          {hint}
        </small>
      )}
    </>
  );
}
