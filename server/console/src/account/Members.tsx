import { graphql, type Page } from "./api";
import { usePages, useWho } from "./hooks";
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

type Member = { role: string; since: string; user: { accountId: string; username: string; fullName: string | null } };
const membersOf = (data: { user: { members: Page<Member> } }) => data.user.members;

export function Members({ team }: { team: Team; role: string; reload(): void }) {
  const members = usePages(MEMBERS, membersOf, { id: team.id });
  const who = useWho();
  return (
    <List
      pages={members}
      caption="Members, the newest first"
      columns={["Member", "Name", "Role", "Joined"]}
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
        ],
      })}
    />
  );
}
