import type { Client } from "graphql-ws";
import { createContext } from "react";
import type { Viewer } from "./session";
import { connect } from "./transport";

export type Session = { client: Client; viewer: Viewer | null };

export const SessionContext = createContext<Session>({ client: connect(), viewer: null });
