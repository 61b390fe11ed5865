import { graphql } from "./api";
import { DeleteAccount } from "./DeleteAccount";
import { bytes, count } from "./format";
import { type Loaded, useChange, useQuery, useWho } from "./hooks";
import { Field, Form } from "./parts/Form";
import { Ready } from "./parts/List";
import { Time } from "./parts/Time";

const PROFILE = graphql`query Profile {
  viewer {
    username fullName email emailVerifiedAt role tier createdAt lastLoginAt passwordChangedAt creditBalance creditsHeld
    storage { usedBytes pendingBytes quotaBytes }
    stats { datasets pipelines models experiments jobs }
  }
}`;
const UPDATE = graphql`mutation UpdateAccount($input: UpdateAccountInput!) {
  updateAccount(input: $input) { ... on UpdateAccountPayload { viewer { username } } ...Problem }
}`;
const CHANGE_EMAIL = graphql`mutation ChangeEmail($input: ChangeEmailInput!) {
  changeEmail(input: $input) { ... on ChangeEmailPayload { email } ...Problem }
}`;
const CHANGE_PASSWORD = graphql`mutation ChangePassword($input: ChangePasswordInput!) {
  changePassword(input: $input) { ... on ChangePasswordPayload { isChanged } ...Problem }
}`;

type User = {
  username: string;
  fullName: string | null;
  email: string;
  emailVerifiedAt: string | null;
  role: string;
  tier: string;
  createdAt: string;
  lastLoginAt: string | null;
  passwordChangedAt: string | null;
  creditBalance: number;
  creditsHeld: number;
  storage: { usedBytes: number; pendingBytes: number; quotaBytes: number | null };
  stats: { datasets: number; pipelines: number; models: number; experiments: number; jobs: number };
};

export function Profile() {
  const profile = useQuery<{ viewer: User }>(PROFILE);
  return (
    <Ready query={profile}>
      {({ viewer }) => (
        <>
          <Names user={viewer} profile={profile} />
          <Address user={viewer} />
          <Password user={viewer} profile={profile} />
          <Limits user={viewer} />
          <DeleteAccount />
        </>
      )}
    </Ready>
  );
}

function Names({ user, profile }: { user: User; profile: Loaded<unknown> }) {
  const change = useChange();
  const { refresh } = useWho();
  return (
    <section>
      <h2>Names</h2>
      <Form
        label="Names"
        submit="Save"
        done="Saved."
        places={{ NAME_TAKEN: "username" }}
        onSubmit={(values) => change(UPDATE, { fullName: String(values.get("fullName")).trim() || null, username: values.get("username") })}
        onDone={() => {
          profile.reload();
          refresh();
        }}
      >
        <Field name="fullName" label="Full name" defaultValue={user.fullName ?? ""} autoComplete="name" />
        <Field name="username" label="Username" defaultValue={user.username} autoComplete="username" hint="Unique among all users; you can sign in with it." />
      </Form>
    </section>
  );
}

function Address({ user }: { user: User }) {
  const change = useChange();
  return (
    <section>
      <h2>E-mail address</h2>
      <p>
        <strong>{user.email}</strong>{" "}
        {user.emailVerifiedAt ? (
          <span className="badge good">
            verified <Time at={user.emailVerifiedAt} />
          </span>
        ) : (
          <span className="badge">not verified</span>
        )}
      </p>
      <Form<{ email: string }>
        label="E-mail address"
        submit="Change address"
        clears
        done={({ email }) => `A mail goes to ${email}. Your address changes once you use what it contains.`}
        places={{ INVALID_CREDENTIALS: "currentPassword" }}
        onSubmit={(values) => change(CHANGE_EMAIL, { newEmail: values.get("newEmail"), currentPassword: values.get("currentPassword") })}
      >
        <Field name="newEmail" label="New address" type="email" autoComplete="email" hint="Your present address verifies itself in the same way: give it again." />
        <Field name="currentPassword" label="Password" type="password" autoComplete="current-password" />
      </Form>
    </section>
  );
}

function Password({ user, profile }: { user: User; profile: Loaded<unknown> }) {
  const change = useChange();
  return (
    <section>
      <h2>Password</h2>
      <p className="hint">
        Last changed: <Time at={user.passwordChangedAt} none="not since your account was made" />. A change ends your other sessions; API keys stay.
      </p>
      <Form
        label="Password"
        submit="Change password"
        done="Your password is changed, and your other sessions have ended."
        clears
        places={{ INVALID_CREDENTIALS: "currentPassword", WEAK_PASSWORD: "newPassword" }}
        onSubmit={async (values) => {
          if (values.get("newPassword") !== values.get("repeated"))
            return { problem: { message: "", issues: [{ path: ["repeated"], message: "This is not what you typed above." }] } };
          return change(CHANGE_PASSWORD, { currentPassword: values.get("currentPassword"), newPassword: values.get("newPassword") });
        }}
        onDone={profile.reload}
      >
        <input type="text" name="account" autoComplete="username" value={user.username} readOnly hidden />
        <Field name="currentPassword" label="Current password" type="password" autoComplete="current-password" />
        <Field name="newPassword" label="New password" type="password" autoComplete="new-password" />
        <Field name="repeated" label="New password again" type="password" autoComplete="new-password" />
      </Form>
    </section>
  );
}

function Limits({ user }: { user: User }) {
  const { usedBytes, pendingBytes, quotaBytes } = user.storage;
  const used = Number(usedBytes) + Number(pendingBytes);
  const counters = Object.entries(user.stats);
  return (
    <section>
      <h2>Use and limits</h2>
      <dl className="facts">
        <div>
          <dt>Role</dt>
          <dd>{user.role}</dd>
        </div>
        <div>
          <dt>Tier</dt>
          <dd>{user.tier}</dd>
        </div>
        <div>
          <dt>Credits</dt>
          <dd>
            {count(user.creditBalance)}
            {Number(user.creditsHeld) > 0 && ` and ${count(user.creditsHeld)} held by jobs`}
          </dd>
        </div>
        <div>
          <dt>Member since</dt>
          <dd>
            <Time at={user.createdAt} />
          </dd>
        </div>
        {counters.map(([name, number]) => (
          <div key={name}>
            <dt>{name.charAt(0).toUpperCase() + name.slice(1)}</dt>
            <dd>{count(number)}</dd>
          </div>
        ))}
      </dl>
      <p className="storage">
        <label htmlFor="storage">
          Storage: {bytes(used)} {quotaBytes === null ? "used, without a quota" : `of ${bytes(quotaBytes)}`}
          {Number(pendingBytes) > 0 && ` (${bytes(pendingBytes)} of it in uploads)`}
        </label>
        {quotaBytes !== null && <meter id="storage" min={0} max={Number(quotaBytes) || 1} high={Number(quotaBytes) * 0.9} value={used} />}
      </p>
    </section>
  );
}
