import type { Client } from "graphql-ws";
import { createContext } from "react";
import type { Viewer } from "./session";
import { connect } from "./transport";

export type Session = { token: string | null; client: Client; viewer: Viewer | null };

export const SessionContext = createContext<Session>({ token: null, client: connect(null), viewer: null });
