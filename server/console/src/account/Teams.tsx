import { useState } from "react";
import { graphql } from "./api";
import { plural } from "./format";
import { useChange, useQuery } from "./hooks";
import { Invitations } from "./Invitations";
import { Members } from "./Members";
import { Confirm, Dialog } from "./parts/Dialog";
import { Field, Form } from "./parts/Form";
import { Ready } from "./parts/List";
import { Time } from "./parts/Time";

const TEAMS = graphql`query Teams {
  viewer { teams { role since team { id username fullName stats { datasets pipelines models experiments jobs } } } }
}`;
const CREATE = graphql`mutation CreateTeam($input: CreateTeamInput!) {
  createTeam(input: $input) { ... on CreateTeamPayload { team { username } } ...Problem }
}`;
const DELETE = graphql`mutation DeleteTeam($input: DeleteTeamInput!) {
  deleteTeam(input: $input) { ... on DeleteTeamPayload { deletedId } ...Problem }
}`;

export type Team = { id: string; username: string; fullName: string | null; stats: Record<string, number> };
export type Membership = { role: string; since: string; team: Team };

export function Teams() {
  const teams = useQuery<{ viewer: { teams: Membership[] } }>(TEAMS);
  const [isMaking, setMaking] = useState(false);
  const change = useChange();
  return (
    <>
      <section>
        <p className="hint">A team owns datasets, pipelines and models as a person does, and its members share them.</p>
        <button type="button" className="primary" onClick={() => setMaking(true)}>
          New team
        </button>
        {isMaking && (
          <Dialog title="New team" onClose={() => setMaking(false)}>
            <Form
              submit="Make team"
              places={{ NAME_TAKEN: "username" }}
              onSubmit={(values) => change(CREATE, { name: values.get("name"), username: values.get("username") })}
              onDone={() => {
                setMaking(false);
                teams.reload();
              }}
              onCancel={() => setMaking(false)}
            >
              <Field name="name" label="Name" autoFocus autoComplete="off" />
              <Field name="username" label="Short name" autoComplete="off" hint="Unique among all users and teams." />
            </Form>
          </Dialog>
        )}
      </section>
      <Ready query={teams}>
        {({ viewer }) =>
          viewer.teams.length === 0 ? (
            <p className="hint">You are in no team.</p>
          ) : (
            viewer.teams.map((membership) => <TeamCard key={membership.team.id} membership={membership} reload={teams.reload} />)
          )
        }
      </Ready>
    </>
  );
}

function TeamCard({ membership, reload }: { membership: Membership; reload(): void }) {
  const { team, role, since } = membership;
  const change = useChange();
  const owned = Object.entries(team.stats)
    .filter(([, number]) => Number(number) > 0)
    .map(([name, number]) => plural(Number(number), name.replace(/s$/, "")));
  return (
    <section aria-label={team.fullName ?? team.username}>
      <h2>
        {team.fullName ?? team.username} <small className="hint">{team.username}</small> <span className="badge">{role}</span>
      </h2>
      <p className="hint">
        You joined <Time at={since} />. The team owns {owned.length > 0 ? owned.join(", ") : "nothing yet"}.
      </p>
      <Members team={team} isAdmin={role === "ADMIN"} reload={reload} />
      {role === "ADMIN" && (
        <>
          <Invitations teamId={team.id} />
          <Confirm
            label="Delete the team"
            about={team.username}
            title={`Delete ${team.fullName ?? team.username}?`}
            text="Its datasets, pipelines and models go with it. For 30 days, whoever runs this Trellis can restore it."
            onConfirm={() => change(DELETE, { id: team.id })}
            onDone={reload}
          />
        </>
      )}
    </section>
  );
}
