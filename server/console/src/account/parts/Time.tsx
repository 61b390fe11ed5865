const FORMAT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A time in the reader's zone and language, or `none`. */
export function Time({ at, none = "–" }: { at: string | null; none?: string }) {
  if (at === null) return <span>{none}</span>;
  return (
    <time dateTime={at} title={at}>
      {FORMAT.format(new Date(at))}
    </time>
  );
}
