import { createContext, useCallback, useContext, useEffect, useRef, useState } from "react";
import type { Viewer } from "../session";
import { ask, type Change, change, messageOf, type Page } from "./api";

/** The viewer; `isSession` is false where an API key was exchanged for the cookie. `refresh` is for who changed their name. */
export type Who = Viewer & { isSession: boolean; refresh(): void };
export const WhoContext = createContext<Who>({ username: "", role: "VIEWER", isSession: false, refresh: () => undefined });
export const useWho = (): Who => useContext(WhoContext);

/** `ensureRecent` asks for the password if the sign-in is too old for what is recent-only, and says whether to go on. */
export type Checked = { change: Change; ensureRecent(): Promise<boolean> };
export const CheckedContext = createContext<Checked>({ change, ensureRecent: () => Promise.resolve(true) });
export const useChecked = (): Checked => useContext(CheckedContext);
/** Runs a mutation; who signed in long ago is asked for the password first, where the mutation takes that. */
export const useChange = (): Change => useChecked().change;

export type Loaded<T> = { data: T | null; error: string | null; isLoading: boolean; reload(): void };

/** The data of a query, asked for again when its variables change. The last data stay until new ones are here. */
export function useQuery<T>(document: string, variables: object = {}): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: string | null; isLoading: boolean }>({ data: null, error: null, isLoading: true });
  const [round, setRound] = useState(0);
  const key = JSON.stringify(variables);
  useEffect(() => {
    let isCurrent = true;
    setState((last) => ({ ...last, error: null, isLoading: true }));
    ask<T>(document, JSON.parse(key) as object).then(
      (data) => isCurrent && setState({ data, error: null, isLoading: false }),
      (error: unknown) => isCurrent && setState({ data: null, error: messageOf(error), isLoading: false }),
    );
    return () => void (isCurrent = false);
  }, [document, key, round]);
  return { ...state, reload: useCallback(() => setRound((last) => last + 1), []) };
}

export type Pages<T> = Loaded<T[]> & { hasMore: boolean; more(): void };

/** A list page by page; `$first` and `$after` are the query's, `pick` finds the connection in its data. */
export function usePages<D, T>(document: string, pick: (data: D) => Page<T>, variables: object = {}, first = 20): Pages<T> {
  const [state, setState] = useState<{ data: T[] | null; end: string | null; error: string | null; isLoading: boolean }>({ data: null, end: null, error: null, isLoading: true });
  const [round, setRound] = useState(0);
  const key = JSON.stringify(variables);
  const pickPage = useRef(pick);
  const current = useRef(0);

  const load = useCallback(
    async (after: string | null) => {
      const turn = ++current.current;
      setState((last) => ({ ...last, error: null, isLoading: true }));
      try {
        const { edges, pageInfo } = pickPage.current(await ask<D>(document, { ...(JSON.parse(key) as object), first, after }));
        const rows = edges.map((edge) => edge.node);
        if (turn !== current.current) return;
        const end = pageInfo.hasNextPage ? pageInfo.endCursor : null;
        setState((last) => ({ data: after ? [...(last.data ?? []), ...rows] : rows, end, error: null, isLoading: false }));
      } catch (error) {
        if (turn === current.current) setState((last) => ({ ...last, error: messageOf(error), isLoading: false }));
      }
    },
    [document, key, first],
  );
  useEffect(() => {
    void load(null);
    return () => void current.current++;
  }, [load, round]);
  return {
    data: state.data,
    error: state.error,
    isLoading: state.isLoading,
    hasMore: state.end !== null,
    more: () => void load(state.end),
    reload: useCallback(() => setRound((last) => last + 1), []),
  };
}
