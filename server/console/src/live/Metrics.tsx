import { type Series, short } from "./stream";

/** Metrics of many steps as curves; those with one value, such as a test's score, as figures. */
export function Metrics({ series }: { series: Map<string, Series> }) {
  const all = [...series];
  const curves = all.filter(([, one]) => one.count > 1);
  const figures = all.filter(([, one]) => one.count === 1);
  return (
    <div className="metrics">
      {curves.length > 0 && (
        <div className="curves">
          {curves.map(([name, one]) => (
            <Curve key={name} name={name} series={one} />
          ))}
        </div>
      )}
      {figures.length > 0 && (
        <dl className="figures">
          {figures.map(([name, one]) => (
            <div key={name}>
              <dt title={name}>{name}</dt>
              <dd>{short(one.last[1])}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

function Curve({ name, series }: { name: string; series: Series }) {
  const points = [...series.points, series.last];
  const steps = points.map(([step]) => step);
  const values = points.map(([, value]) => value);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (step: number) => (((step - first) / (last - first || 1)) * 100).toFixed(2);
  const y = (value: number) => (high === low ? 15 : 28 - ((value - low) / (high - low)) * 26).toFixed(2);
  return (
    <figure>
      <figcaption>
        <span title={name}>{name}</span> <b>{short(series.last[1])}</b>
      </figcaption>
      <svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label={`${name}: ${series.count} points from ${short(low)} to ${short(high)}`}>
        <polyline points={points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ")} />
      </svg>
      <div className="scale">
        <span>
          steps {first}–{last}
        </span>
        <span>
          {short(low)} … {short(high)}
        </span>
      </div>
    </figure>
  );
}
