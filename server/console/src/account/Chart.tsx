import { useEffect, useId, useRef, useState } from "react";
import { count, duration } from "./format";

/** `tick` is the short form of `label` below the axis. */
export type Period = { start: string; label: string; tick: string; requests: number; errors: number; p95: number | null };

const HEIGHT = 240;
const MARGIN = { top: 12, right: 56, bottom: 26, left: 48 };

/** Requests as bars with their errors in red, and the p95 of durations as a line with its own axis. The table beside it has the same numbers. */
export function Chart({ title, periods }: { title: string; periods: Period[] }) {
  const [frame, width] = useWidth();
  const id = useId();
  const inner = Math.max(width - MARGIN.left - MARGIN.right, 40);
  const bottom = HEIGHT - MARGIN.bottom;
  const tall = bottom - MARGIN.top;
  const most = niceMaximum(Math.max(...periods.map((period) => period.requests), 1), true);
  const slowest = niceMaximum(Math.max(...periods.map((period) => period.p95 ?? 0), 0.001), false);
  const step = inner / Math.max(periods.length, 1);
  const x = (index: number) => MARGIN.left + index * step;
  const y = (requests: number) => bottom - (requests / most) * tall;
  const timed = periods.flatMap(({ p95 }, index) => (p95 === null ? [] : [{ x: x(index) + step / 2, y: bottom - (p95 / slowest) * tall }]));
  const total = periods.reduce((sum, period) => sum + period.requests, 0);
  const failed = periods.reduce((sum, period) => sum + period.errors, 0);
  const every = Math.ceil(periods.length / Math.max(Math.floor(inner / 64), 1));

  return (
    <figure className="chart" ref={frame}>
      <svg width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-labelledby={`${id}-title`} aria-describedby={`${id}-text`}>
        <title id={`${id}-title`}>{title}</title>
        <desc id={`${id}-text`}>
          {`${count(total)} requests, ${count(failed)} with errors, in ${periods.length} periods. The table below has each of them.`}
        </desc>
        {[0, 0.5, 1].map((part) => (
          <g key={part} className="scale">
            <line x1={MARGIN.left} x2={MARGIN.left + inner} y1={bottom - part * tall} y2={bottom - part * tall} />
            <text x={MARGIN.left - 6} y={bottom - part * tall + 4} textAnchor="end">
              {count(most * part)}
            </text>
            <text x={MARGIN.left + inner + 6} y={bottom - part * tall + 4} className="slow">
              {duration(slowest * part)}
            </text>
          </g>
        ))}
        {periods.map((period, index) => (
          <g key={period.start}>
            <title>{`${period.label}: ${count(period.requests)} requests, ${count(period.errors)} errors, p95 ${duration(period.p95)}`}</title>
            <rect className="hit" x={x(index)} y={MARGIN.top} width={step} height={tall} />
            <rect className="requests" x={x(index) + step * 0.1} y={y(period.requests)} width={step * 0.8} height={bottom - y(period.requests)} />
            <rect className="errors" x={x(index) + step * 0.1} y={y(period.errors)} width={step * 0.8} height={bottom - y(period.errors)} />
            {index % every === 0 && (
              <text x={x(index)} y={HEIGHT - 8}>
                {period.tick}
              </text>
            )}
          </g>
        ))}
        <polyline className="p95" points={timed.map((point) => `${point.x},${point.y}`).join(" ")} />
        {timed.length <= 48 && timed.map((point) => <circle key={point.x} className="p95" cx={point.x} cy={point.y} r={2.5} />)}
      </svg>
      <figcaption>
        <span className="key requests">requests</span>
        <span className="key errors">errors</span>
        <span className="key p95">p95 of durations</span>
      </figcaption>
    </figure>
  );
}

/** A round number that is not below; even for counts, so that half of it is one. */
function niceMaximum(value: number, isCount: boolean): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const nice = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((candidate) => candidate >= value * 0.999) ?? value;
  return isCount && nice % 2 !== 0 ? 2 * Math.ceil(nice / 2) : nice;
}

function useWidth() {
  const frame = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    if (!frame.current) return;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.max(Math.floor(entry.contentRect.width), 200)));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  return [frame, width] as const;
}
