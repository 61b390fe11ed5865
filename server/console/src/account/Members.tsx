import { useState } from "react";
import { graphql, type Page } from "./api";
import { useChange, usePages, useWho } from "./hooks";
import { Confirm, Dialog } from "./parts/Dialog";
import { Form, Select } from "./parts/Form";
import { List } from "./parts/List";
import { Time } from "./parts/Time";
import type { Team } from "./Teams";

const MEMBERS = graphql`query Members($id: ID!, $first: Int!, $after: String) {
  user(id: $id) {
    members(first: $first, after: $after) {
      edges { node { role since user { accountId username fullName } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}`;
const SET_ROLE = graphql`mutation SetTeamRole($input: SetTeamRoleInput!) {
  setTeamRole(input: $input) { ... on SetTeamRolePayload { membership { role } } ...Problem }
}`;
const REMOVE = graphql`mutation RemoveTeamMember($input: RemoveTeamMemberInput!) {
  removeTeamMember(input: $input) { ... on RemoveTeamMemberPayload { team { id } } ...Problem }
}`;
const LEAVE = graphql`mutation LeaveTeam($input: LeaveTeamInput!) {
  leaveTeam(input: $input) { ... on LeaveTeamPayload { leftId } ...Problem }
}`;
export const ROLES: [string, string][] = [
  ["VIEWER", "VIEWER: sees what the team owns"],
  ["MEMBER", "MEMBER: also changes it and runs jobs"],
  ["ADMIN", "ADMIN: also manages the members"],
];

type Member = { role: string; since: string; user: { accountId: string; username: string; fullName: string | null } };
type Props = { team: Team; isAdmin: boolean; reload(): void };
const membersOf = (data: { user: { members: Page<Member> } | null }) => data.user?.members ?? { edges: [], pageInfo: { hasNextPage: false, endCursor: null } };

/** The members of a team. Its ADMINs change roles and remove others; everybody may leave. */
export function Members({ team, isAdmin, reload }: Props) {
  const members = usePages(MEMBERS, membersOf, { id: team.id });
  const [changing, setChanging] = useState<Member | null>(null);
  const change = useChange();
  const who = useWho();

  function actions(member: Member) {
    const { accountId, username } = member.user;
    const isMe = username === who.username;
    return (
      <span className="actions">
        {isAdmin && (
          <button type="button" aria-label={`Change role of ${username}`} onClick={() => setChanging(member)}>
            Change role
          </button>
        )}
        {isMe ? (
          <Confirm
            label="Leave"
            about={team.username}
            title={`Leave ${team.fullName ?? team.username}?`}
            text="You will see nothing that it owns."
            onConfirm={() => change(LEAVE, { teamId: team.id })}
            onDone={reload}
          />
        ) : (
          isAdmin && (
            <Confirm
              label="Remove"
              about={username}
              title={`Remove ${username}?`}
              text={`${username} will see nothing that the team owns.`}
              onConfirm={() => change(REMOVE, { teamId: team.id, userId: accountId })}
              onDone={members.reload}
            />
          )
        )}
      </span>
    );
  }

  return (
    <>
      <List
        pages={members}
        caption="Members, the newest first"
        columns={["Member", "Name", "Role", "Joined", "Action"]}
        empty="Nobody is in this team."
        row={(member) => ({
          key: member.user.accountId,
          cells: [
            <span>
              {member.user.username} {member.user.username === who.username && <span className="badge good">you</span>}
            </span>,
            member.user.fullName ?? "–",
            member.role,
            <Time at={member.since} />,
            actions(member),
          ],
        })}
      />
      {changing && (
        <Dialog title={`Role of ${changing.user.username}`} onClose={() => setChanging(null)}>
          <Form
            submit="Change role"
            places={{ LAST_ADMIN: "role" }}
            onSubmit={(values) => change(SET_ROLE, { teamId: team.id, userId: changing.user.accountId, role: values.get("role") })}
            onDone={() => {
              setChanging(null);
              members.reload();
              if (changing.user.username === who.username) reload();
            }}
            onCancel={() => setChanging(null)}
          >
            <Select name="role" label="Role in the team" options={ROLES} defaultValue={changing.role} />
          </Form>
        </Dialog>
      )}
    </>
  );
}
