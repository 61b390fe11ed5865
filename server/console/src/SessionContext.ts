import type { Client } from "graphql-ws";
import { createContext } from "react";
import { connect } from "./fetcher";
import type { Viewer } from "./session";

export type Session = { client: Client; viewer: Viewer | null };

export const SessionContext = createContext<Session>({ client: connect(), viewer: null });
