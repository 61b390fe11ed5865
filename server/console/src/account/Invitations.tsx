import { graphql, type Page } from "./api";
import { useChange, usePages } from "./hooks";
import { ROLES } from "./Members";
import { Confirm } from "./parts/Dialog";
import { Field, Form, Select } from "./parts/Form";
import { List } from "./parts/List";
import { Time } from "./parts/Time";

const INVITATIONS = graphql`query Invitations($id: ID!, $first: Int!, $after: String) {
  user(id: $id) {
    invitations(first: $first, after: $after) {
      edges { node { id email role createdAt expiresAt invitedBy { username } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}`;
const INVITE = graphql`mutation InviteMember($input: InviteMemberInput!) {
  inviteMember(input: $input) { ... on InviteMemberPayload { invitation { email } } ...Problem }
}`;
const REVOKE = graphql`mutation RevokeInvitation($input: RevokeInvitationInput!) {
  revokeInvitation(input: $input) { ... on RevokeInvitationPayload { revokedId } ...Problem }
}`;

type Invitation = { id: string; email: string; role: string; createdAt: string; expiresAt: string; invitedBy: { username: string } };
type Data = { user: { invitations: Page<Invitation> } | null };
const invitationsOf = (data: Data) => data.user?.invitations ?? { edges: [], pageInfo: { hasNextPage: false, endCursor: null } };

/** The open invitations to a team, for its ADMINs. */
export function Invitations({ teamId }: { teamId: string }) {
  const invitations = usePages(INVITATIONS, invitationsOf, { id: teamId });
  const change = useChange();
  return (
    <>
      <Form<{ invitation: { email: string } }>
        label="Invite"
        submit="Invite"
        clears
        done={({ invitation }) => `A mail goes to ${invitation.email}.`}
        onSubmit={(values) => change(INVITE, { teamId, email: values.get("email"), role: values.get("role") })}
        onDone={invitations.reload}
      >
        <Field name="email" label="Address of who is invited" type="email" autoComplete="off" />
        <Select name="role" label="Role of who is invited" options={ROLES} defaultValue="MEMBER" />
      </Form>
      <List
        pages={invitations}
        caption="Open invitations, the newest first"
        columns={["Address", "Role", "By", "Sent", "Ends", "Action"]}
        empty="There are no open invitations."
        row={(invitation) => ({
          key: invitation.id,
          cells: [
            invitation.email,
            invitation.role,
            invitation.invitedBy.username,
            <Time at={invitation.createdAt} />,
            <Time at={invitation.expiresAt} />,
            <Confirm
              label="Revoke"
              about={`the invitation of ${invitation.email}`}
              title="Revoke this invitation?"
              text={`The link that ${invitation.email} got leads nowhere any more.`}
              onConfirm={() => change(REVOKE, { id: invitation.id })}
              onDone={invitations.reload}
            />,
          ],
        })}
      />
    </>
  );
}
