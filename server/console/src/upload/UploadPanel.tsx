import type { GraphiQLPlugin } from "@graphiql/react";
import { type DragEvent, type FormEvent, useContext, useEffect, useRef, useState } from "react";
import { Bar } from "../Bar";
import { carried } from "../carry";
import { SessionContext } from "../SessionContext";
import { useCell } from "../store";
import { post } from "../transport";
import { createDataset, type Outcome, type Stage, upload } from "./upload";

type Dataset = { id: string; name: string };
type Progress = Partial<Record<Stage, { percent: number; note?: string | undefined }>>;

const STAGES: [Stage, string][] = [
  ["send", "Send"],
  ["hash", "Compute SHA-256"],
  ["ingest", "Check, type and profile"],
];
const NEW = "";

function UploadPanel() {
  const session = useContext(SessionContext);
  const [datasets, setDatasets] = useState<Dataset[]>([]);
  const [datasetId, setDatasetId] = useState(NEW);
  const [name, setName] = useState("");
  const [target, setTarget] = useState("");
  const [file, setFile] = useState<File | null>(null);
  const [progress, setProgress] = useState<Progress | null>(null);
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const running = useRef<AbortController | null>(null);
  const busy = progress !== null && !outcome && !problem;
  const madeLast = useCell(carried).now["datasetId"] || null;
  const offered = useRef<string | null>(null); // Offered once: a choice of another dataset stays.

  useEffect(() => {
    if (!session.viewer) return;
    let current = true;
    post<{ datasets: { edges: { node: Dataset }[] }; dataset?: Dataset | null }>(
      {
        query: `query DatasetsToFill($madeLast: ID!, $isMade: Boolean!) {
          datasets(first: 50, orderBy: { field: UPDATED_AT }) { edges { node { id name } } }
          dataset(id: $madeLast) @include(if: $isMade) { id name }
        }`,
        variables: { madeLast: madeLast ?? "", isMade: madeLast !== null },
      },
    ).then(
      ({ data }) => {
        if (!current) return;
        const made = data?.dataset ?? null;
        const others = data?.datasets.edges.map((edge) => edge.node).filter((dataset) => dataset.id !== made?.id) ?? [];
        setDatasets(made ? [made, ...others] : others);
        if (made && made.id !== offered.current) setDatasetId(made.id);
        offered.current = made?.id ?? null;
      },
      () => current && setDatasets([]),
    );
    return () => {
      current = false;
    };
  }, [session.viewer, outcome, madeLast]);

  // Leaving the panel stops what is still on its way; a file that has arrived is ingested all the same.
  useEffect(() => () => running.current?.abort(), []);

  function choose(chosen: File | null | undefined) {
    if (!chosen) return;
    setProgress(null);
    setOutcome(null);
    setFile(chosen.size > 0 ? chosen : null);
    setProblem(chosen.size > 0 ? null : `${chosen.name} is empty. Choose a file with at least a header and one row.`);
    if (!name) setName(chosen.name.replace(/\.[^.]+$/, ""));
  }

  function drop(event: DragEvent) {
    event.preventDefault();
    choose(event.dataTransfer.files[0]);
  }

  async function start(event: FormEvent) {
    event.preventDefault();
    if (!file) return;
    const control = new AbortController();
    running.current = control;
    setProgress({});
    setOutcome(null);
    setProblem(null);
    try {
      const done = await upload(file, await chosenDataset(), session.client, control.signal, (stage, percent, note) =>
        setProgress((before) => ({ ...before, [stage]: { percent, note } })),
      );
      setOutcome(done);
    } catch (error) {
      setProblem(control.signal.aborted ? "Stopped before the file was complete. No version came of it." : error instanceof Error ? error.message : String(error));
    } finally {
      running.current = null;
    }
  }

  /** A dataset that is made here is chosen from then on: should the file not arrive, a second try goes into it, whose name is now taken. */
  async function chosenDataset(): Promise<string> {
    if (datasetId !== NEW) return datasetId;
    const made = { id: await createDataset({ name: name.trim(), targetColumn: target.trim() || null }), name: name.trim() };
    setDatasets((before) => [made, ...before]);
    setDatasetId(made.id);
    return made.id;
  }

  return (
    <section className="upload" aria-label="Upload">
      <h2>Upload a file</h2>
      <p>CSV, JSON, JSON lines, Parquet or Excel. It goes from your browser straight to the file store, and becomes a new version of the dataset.</p>
      <form onSubmit={(event) => void start(event)}>
        <label className="drop" onDragOver={(event) => event.preventDefault()} onDrop={drop}>
          <input type="file" aria-label="File" disabled={busy} onChange={(event) => choose(event.target.files?.[0])} />
          {file ? (
            <>
              <strong>{file.name}</strong>
              <span>{size(file.size)}</span>
            </>
          ) : (
            <span>Choose a file, or drop one here</span>
          )}
        </label>
        <label>
          Dataset
          <select value={datasetId} disabled={busy} onChange={(event) => setDatasetId(event.target.value)}>
            <option value={NEW}>A new dataset</option>
            {datasets.map((dataset) => (
              <option key={dataset.id} value={dataset.id}>
                {dataset.name}
              </option>
            ))}
          </select>
        </label>
        {datasetId === NEW && (
          <>
            <label>
              Its name
              <input value={name} required disabled={busy} onChange={(event) => setName(event.target.value)} />
            </label>
            <label>
              Column to predict <small>(may be left empty)</small>
              <input value={target} disabled={busy} onChange={(event) => setTarget(event.target.value)} />
            </label>
          </>
        )}
        <div className="row">
          <button type="submit" className="primary" disabled={!file || busy || !session.viewer}>
            Upload
          </button>
          {busy && !progress.ingest && (
            <button type="button" onClick={() => running.current?.abort()}>
              Stop
            </button>
          )}
        </div>
        {!session.viewer && <p className="hint">Sign in at the top first.</p>}
      </form>
      {progress && (
        <ol className="stages">
          {STAGES.map(([stage, title]) => (
            <li key={stage} className={progress[stage] ? "" : "waiting"}>
              <span>{title}</span>
              <Bar label={title} percent={progress[stage]?.percent ?? 0} />
              {progress[stage]?.note && <small>{progress[stage].note}</small>}
            </li>
          ))}
        </ol>
      )}
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      {outcome && (
        <p className="success" role="status">
          Version {outcome.number} is ready: {outcome.rows?.toLocaleString("en") ?? "?"} rows, {outcome.columns ?? "?"} columns,{" "}
          {outcome.issues === 0 ? "no issues" : `${outcome.issues} issues`}; its SHA-256 is that of your file. Its ids are in the tabs: go on with training.
        </p>
      )}
    </section>
  );
}

function size(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function UploadIcon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" strokeLinejoin="round" height="1em" aria-hidden="true">
      <path d="M12 16V4m0 0L7 9m5-5 5 5M4 15v4a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-4" />
    </svg>
  );
}

export const UPLOAD_PLUGIN: GraphiQLPlugin = { title: "Upload", icon: UploadIcon, content: UploadPanel };
