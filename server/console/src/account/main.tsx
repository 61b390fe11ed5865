import "../style.css";
import "./account.css";
import "./chart.css";
import "./narrow.css";
import { createRoot } from "react-dom/client";
import { Account } from "./Account";
import { isMailLink, MailLink } from "./MailLink";

// The theme that was chosen in GraphiQL, if one was; else the system's.
const theme = localStorage.getItem("graphiql:theme");
if (theme === "light" || theme === "dark") document.body.classList.add(`graphiql-${theme}`);

const place = document.getElementById("account");
if (place) createRoot(place).render(isMailLink(location.pathname) ? <MailLink path={location.pathname} /> : <Account />);
