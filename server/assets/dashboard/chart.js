// A line chart of the last minutes, drawn by uPlot.

import { html, useEffect, useRef } from "/assets/preact.js";
import uPlot from "/assets/uplot.js";

const HEIGHT = 150;

/** The present colours for a canvas, which are CSS properties of the page. */
function inks(element) {
  const probe = element.appendChild(document.createElement("span"));
  const ink = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const found = { line: ink("--line"), faint: ink("--faint"), series: [ink("--accent"), ink("--second")] };
  probe.remove();
  return found;
}

/** Draws a chart. `series` are names; `points` is `[times in s, values of the first series, …]`. */
export function Chart({ label, series, points, format }) {
  const box = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const element = box.current;
    const draw = () => {
      plot.current?.destroy();
      const { line, faint, series: colours } = inks(element);
      const axis = { stroke: faint, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      plot.current = new uPlot(
        {
          width: element.clientWidth || 300,
          height: HEIGHT,
          cursor: { drag: { x: false, y: false } },
          legend: { show: false },
          scales: { y: { range: (_, low, high) => [0, Math.max(high, 1)] } },
          axes: [
            { ...axis, space: 70, size: 26, values: (_, times) => times.map((s) => new Date(s * 1000).toLocaleTimeString([], { hour12: false })) },
            { ...axis, size: 56, values: (_, values) => values.map(format) },
          ],
          series: [{}, ...series.map((name, at) => ({ label: name, stroke: colours[at], width: 2, points: { show: false } }))],
        },
        points,
        element,
      );
    };
    draw();
    const resized = new ResizeObserver(() => plot.current.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      plot.current.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(points), [points]);
  const last = series.map((name, at) => `${name} ${format(points[at + 1].at(-1) ?? 0)}`).join(", ");
  return html`
    <figure class="chart">
      <figcaption>${label}
        ${series.length > 1 && html`<span class="keys">${series.map((name, at) => html`<span class=${`key key-${at}`}>${name}</span>`)}</span>`}
      </figcaption>
      <div ref=${box} role="img" aria-label=${`${label}: ${last}`}></div>
    </figure>`;
}
