import { useState } from "react";
import { BackupCodes } from "./BackupCodes";
import { graphql, type Outcome } from "./api";
import { plural } from "./format";
import { useChange, useQuery } from "./hooks";
import { Copy } from "./parts/Copy";
import { Field, Form } from "./parts/Form";
import { Ready } from "./parts/List";

const FACTOR = graphql`query SecondFactor { viewer { username hasTotp backupCodesLeft } }`;
const ENROLL = graphql`mutation EnrollTotp($input: EnrollTotpInput!) {
  enrollTotp(input: $input) { ... on EnrollTotpPayload { secret uri qrSvg } ...Problem }
}`;
const CONFIRM = graphql`mutation ConfirmTotp($input: ConfirmTotpInput!) {
  confirmTotp(input: $input) { ... on ConfirmTotpPayload { backupCodes } ...Problem }
}`;
const REGENERATE = graphql`mutation RegenerateBackupCodes($input: RegenerateBackupCodesInput!) {
  regenerateBackupCodes(input: $input) { ... on RegenerateBackupCodesPayload { backupCodes } ...Problem }
}`;
const DISABLE = graphql`mutation DisableTotp($input: DisableTotpInput!) {
  disableTotp(input: $input) { ... on DisableTotpPayload { isDisabled } ...Problem }
}`;

type Factor = { username: string; hasTotp: boolean; backupCodesLeft: number };
type Enrollment = { secret: string; uri: string; qrSvg: string };
type Codes = { backupCodes: string[] };

export function SecondFactor() {
  const factor = useQuery<{ viewer: Factor }>(FACTOR);
  const [codes, setCodes] = useState<string[] | null>(null);

  function show({ backupCodes }: Codes) {
    setCodes(backupCodes);
    factor.reload();
  }

  return (
    <Ready query={factor}>
      {({ viewer }) =>
        codes ? (
          <BackupCodes codes={codes} username={viewer.username} onStored={() => setCodes(null)} />
        ) : viewer.hasTotp ? (
          <>
            <section>
              <p>
                <span className="badge good">on</span> Signing in with your password also takes a code of your app. You have{" "}
                {plural(viewer.backupCodesLeft, "backup code")} left.
              </p>
            </section>
            <WithBoth title="Replace the backup codes" submit="Make new codes" document={REGENERATE} onDone={show}>
              The codes that you have become void.
            </WithBoth>
            <Enroll title="Use another app" onConfirmed={show} />
            <WithBoth title="Remove the app" submit="Remove the app" document={DISABLE} isDanger onDone={factor.reload}>
              Signing in will take your password alone, and your backup codes become void.
            </WithBoth>
          </>
        ) : (
          <Enroll title="Add an app for codes" onConfirmed={show} />
        )
      }
    </Ready>
  );
}

/** The password, then the QR code, then the first code that the app shows. */
function Enroll({ title, onConfirmed }: { title: string; onConfirmed(codes: Codes): void }) {
  const [enrollment, setEnrollment] = useState<Enrollment | null>(null);
  const change = useChange();
  return (
    <section>
      <h2>{title}</h2>
      {enrollment === null ? (
        <Form<Enrollment>
          label={title}
          submit="Continue"
          places={{ INVALID_CREDENTIALS: "password" }}
          onSubmit={(values) => change<Enrollment>(ENROLL, { password: values.get("password") })}
          onDone={setEnrollment}
        >
          <p>An authenticator app on your phone shows a code every 30 seconds, which signing in then takes besides your password.</p>
          <Field name="password" label="Password" type="password" autoComplete="current-password" />
        </Form>
      ) : (
        <>
          <p>Scan this with the app, or type the secret into it.</p>
          <img className="qr" alt="QR code of the secret" src={`data:image/svg+xml,${encodeURIComponent(enrollment.qrSvg)}`} />
          <Copy label="Secret" value={enrollment.secret} />
          <Form<Codes>
            label="First code"
            submit="Confirm"
            places={{ INVALID_CREDENTIALS: "code" }}
            onSubmit={(values) => change<Codes>(CONFIRM, { code: values.get("code") })}
            onDone={onConfirmed}
            onCancel={() => setEnrollment(null)}
          >
            <Field name="code" label="Code that the app shows" inputMode="numeric" autoComplete="one-time-code" autoFocus />
          </Form>
        </>
      )}
    </section>
  );
}

type BothProps<T> = { title: string; submit: string; document: string; isDanger?: boolean; onDone(payload: T): void; children: string };

/** What takes both factors. */
function WithBoth<T>({ title, submit, document, isDanger, onDone, children }: BothProps<T>) {
  const change = useChange();
  return (
    <section>
      <h2>{title}</h2>
      <Form<T>
        label={title}
        submit={submit}
        isDanger={isDanger}
        onSubmit={(values): Promise<Outcome<T>> => change<T>(document, { password: values.get("password"), code: values.get("code") })}
        onDone={onDone}
      >
        <p>{children}</p>
        <Field name="password" label="Password" type="password" autoComplete="current-password" />
        <Field name="code" label="Code of the app, or a backup code" autoComplete="one-time-code" />
      </Form>
    </section>
  );
}
