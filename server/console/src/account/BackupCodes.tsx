import { useEffect, useState } from "react";

type Props = { codes: string[]; username: string; onStored(): void };

/** The backup codes, which are shown once, with a file to keep. */
export function BackupCodes({ codes, username, onStored }: Props) {
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    const text = `Backup codes of ${username} at ${location.origin}\nEach signs you in once, with your password.\n\n${codes.join("\n")}\n`;
    const made = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [codes, username]);
  return (
    <section>
      <h2>Backup codes</h2>
      <p>Each of these signs you in once, instead of a code of the app, should you lose it. They are shown only now: keep them where your phone is not.</p>
      <ol className="codes">
        {codes.map((code) => (
          <li key={code}>
            <code>{code}</code>
          </li>
        ))}
      </ol>
      <div className="actions">
        <a className="button" href={url} download={`trellis-backup-codes-${username}.txt`}>
          Download
        </a>
        <button type="button" className="primary" onClick={onStored}>
          I have stored them
        </button>
      </div>
    </section>
  );
}
