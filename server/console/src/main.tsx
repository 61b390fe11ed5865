import "./workers";
import "@graphiql/react/font/fira-code.css";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./style.css";
import "./tutorials/tutorials.css";
import { createRoot } from "react-dom/client";
import { Console } from "./Console";

const place = document.getElementById("console");
if (place) createRoot(place).render(<Console />);
