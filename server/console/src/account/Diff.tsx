type Values = Record<string, unknown> | null;

/** What changed: each value as it was, and as it was set. */
export function Diff({ before, after }: { before: Values; after: Values }) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])].sort();
  if (names.length === 0) return <span>–</span>;
  return (
    <ul className="diff">
      {names.map((name) => (
        <li key={name}>
          <code>{name}</code>
          {before && name in before && <del>{shown(before[name])}</del>}
          {after && name in after && <ins>{shown(after[name])}</ins>}
        </li>
      ))}
    </ul>
  );
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
