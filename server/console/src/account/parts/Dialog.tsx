import { type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import type { Outcome } from "../api";
import { Form } from "./Form";

/** A modal dialog; the browser keeps the focus in it, closes it with Escape and gives the focus back. */
export function Dialog({ title, onClose, children }: { title: string; onClose(): void; children: ReactNode }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  // A layout effect ends while the dialog is still in the document: only then does closing it give the focus back.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (!dialog?.open) dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog ref={ref} onCancel={onClose} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

type ConfirmProps<T> = { label: string; about: string; title: string; text: string; onConfirm(): Promise<Outcome<T>>; onDone(): void };

/** A button that asks again before it does something that cannot be undone. `about` tells it from its like in other rows. */
export function Confirm<T>({ label, about, title, text, onConfirm, onDone }: ConfirmProps<T>) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button type="button" aria-label={`${label} ${about}`} onClick={() => setOpen(true)}>
        {label}
      </button>
      {isOpen && (
        <Dialog title={title} onClose={() => setOpen(false)}>
          <p>{text}</p>
          <Form
            submit={label}
            isDanger
            onSubmit={onConfirm}
            onDone={() => {
              setOpen(false);
              onDone();
            }}
            onCancel={() => setOpen(false)}
          />
        </Dialog>
      )}
    </>
  );
}
