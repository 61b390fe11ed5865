export function Bar({ label, percent }: { label: string; percent: number }) {
  return (
    <span className="bar">
      <progress aria-label={label} max={100} value={percent} />
      <span>{Math.floor(percent)} %</span>
    </span>
  );
}
