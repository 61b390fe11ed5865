// What the API says of tutorials: every list and every tick is its answer, so the panel never counts by itself.
import { Cell } from "../store";
import { post } from "../transport";

export type Step = {
  key: string;
  title: string;
  /** Markdown. */
  body: string;
  document: string | null;
  variables: Record<string, unknown> | null;
  isCompleted: boolean;
};
export type Tutorial = {
  id: string;
  title: string;
  summary: string;
  level: string;
  minutes: number;
  steps: Step[];
  progress: { completedSteps: number; totalSteps: number };
};

/** The tutorials are null until the API has answered; `problem` is why it did not do what was asked last. */
export const shown = new Cell<{ tutorials: Tutorial[] | null; problem: string | null }>({ tutorials: null, problem: null });

// Whole texts, so that a test can check them against the schema.
const SHOWN = `fragment Shown on Tutorial {
  id title summary level minutes
  steps { key title body document variables isCompleted }
  progress { completedSteps totalSteps }
}`;
const LIST = `query Tutorials { tutorials { ...Shown } }`;
const COMPLETE = `mutation CompleteTutorialStep($input: CompleteTutorialStepInput!) {
  answer: completeTutorialStep(input: $input) { ... on CompleteTutorialStepPayload { tutorial { ...Shown } } ... on Problem { message } }
}`;
const RESET = `mutation ResetTutorial($input: ResetTutorialInput!) {
  answer: resetTutorial(input: $input) { ... on ResetTutorialPayload { tutorial { ...Shown } } ... on Problem { message } }
}`;

/** Reads the tutorials with the viewer's own progress. */
export async function load(): Promise<void> {
  await asking(async () => {
    const { data, errors } = await post<{ tutorials: Tutorial[] }>({ query: `${LIST} ${SHOWN}` });
    if (!data) throw new Error(errors?.[0]?.message ?? "The API did not say which tutorials there are.");
    shown.set({ tutorials: data.tutorials, problem: null });
  });
}

export function complete(tutorialId: string, stepKey: string): Promise<boolean> {
  return change(COMPLETE, { tutorialId, stepKey });
}

export function reset(tutorialId: string): Promise<boolean> {
  return change(RESET, { tutorialId });
}

function change(mutation: string, input: Record<string, string>): Promise<boolean> {
  return asking(async () => {
    const { data, errors } = await post<{ answer: { tutorial?: Tutorial; message?: string } }>({ query: `${mutation} ${SHOWN}`, variables: { input } });
    const changed = data?.answer.tutorial;
    if (!changed) throw new Error(data?.answer.message ?? errors?.[0]?.message ?? "The API did not say what became of the progress.");
    const before = shown.get().tutorials;
    shown.set({ tutorials: before?.map((one) => (one.id === changed.id ? changed : one)) ?? null, problem: null });
  });
}

/** Whether it was done; what failed is shown. */
async function asking(ask: () => Promise<void>): Promise<boolean> {
  try {
    await ask();
    return true;
  } catch (error) {
    shown.set({ ...shown.get(), problem: error instanceof Error ? error.message : String(error) });
    return false;
  }
}
