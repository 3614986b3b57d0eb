// A chart of lines and points in SVG: zoom by dragging or by keys, a readout by pointer or by arrow keys.
"use strict";

// Elements, with attributes; text goes in as text.
function element(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "text", "circle"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const MARKS = [
  (x, y) => `M${x - 3.5},${y}a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0`,
  (x, y) => `M${x - 3.2},${y - 3.2}h6.4v6.4h-6.4z`,
  (x, y) => `M${x},${y - 4.5}l4.2,7.5h-8.4z`,
  (x, y) => `M${x},${y - 4.5}l4.5,4.5l-4.5,4.5l-4.5,-4.5z`,
  (x, y) => `M${x - 4},${y + 1.5}v-3h2.5v-2.5h3v2.5h2.5v3h-2.5v2.5h-3v-2.5z`,
];
const DASHES = ["5 4", "", "2 3", "9 3 2 3", "12 4"];

function ticks(low, high, logarithmic, count) {
  const found = [];
  if (logarithmic && high / low > 4) {
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    }
  } else {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
    for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  }
  return found.filter((value) => value >= low && value <= high);
}

const shortNumber = (value) => String(Number(value.toPrecision(3)));

// options: label, xLabel, yLabel. draw(series, logarithmic): series are {name, colour, style, points},
// points {x, y, text}; style picks mark and dash, and no line is drawn where `loose` is set.
function makeChart(container, options) {
  const box = element("div", { class: "chart" });
  const svg = element("svg", { role: "application", tabindex: 0, "aria-label": options.label });
  const readout = element("output", { "aria-live": "polite" });
  const buttons = element("div", { class: "chart-buttons" });
  box.append(svg, readout);
  container.append(buttons, box);
  let series = [], logarithmic = false, view = null, focus = null, frame = null;

  for (const [name, action] of [["Zoom in", () => zoom(0.6)], ["Zoom out", () => zoom(1 / 0.6)], ["All", () => zoomTo(null)]]) {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", action);
    buttons.append(button);
  }

  const warp = (x) => (logarithmic ? Math.log(x) : x);
  const unwarp = (x) => (logarithmic ? Math.exp(x) : x);

  function everything() {
    const points = series.flatMap((one) => one.points);
    if (!points.length) return null;
    const xs = points.map((p) => warp(p.x)), ys = points.map((p) => p.y);
    const pad = (low, high) => [low - 0.04 * (high - low || 1), high + 0.04 * (high - low || 1)];
    return { x: pad(Math.min(...xs), Math.max(...xs)), y: pad(Math.min(...ys), Math.max(...ys)) };
  }

  function zoomTo(next) { view = next; focus = null; paint(); }

  function zoom(factor) {
    const now = view || everything();
    if (!now) return;
    const about = ([low, high]) => [(low + high) / 2 - factor * (high - low) / 2, (low + high) / 2 + factor * (high - low) / 2];
    zoomTo({ x: about(now.x), y: about(now.y) });
  }

  function paint() {
    svg.replaceChildren();
    readout.textContent = "";
    const width = Math.max(280, container.clientWidth), height = Math.max(260, Math.min(460, 0.62 * width));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const shown = view || everything();
    if (!shown) {
      svg.append(element("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Nothing to draw: nothing is chosen, or nothing was measured."));
      return;
    }
    const left = 52, right = width - 12, top = 12, bottom = height - 46;
    const x = (value) => left + (right - left) * (warp(value) - shown.x[0]) / (shown.x[1] - shown.x[0]);
    const y = (value) => bottom - (bottom - top) * (value - shown.y[0]) / (shown.y[1] - shown.y[0]);
    frame = { left, right, top, bottom, width, height, x, y, shown };
    for (const value of ticks(unwarp(shown.x[0]), unwarp(shown.x[1]), logarithmic, width / 90)) {
      svg.append(element("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: bottom }),
        element("text", { x: x(value), y: bottom + 17, "text-anchor": "middle" }, shortNumber(value)));
    }
    for (const value of ticks(...shown.y, false, height / 55)) {
      svg.append(element("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
        element("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toFixed(4)))));
    }
    svg.append(element("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      element("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, options.xLabel),
      element("text", { transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, options.yLabel));
    const clip = element("svg", { x: left, y: top, width: right - left, height: bottom - top, viewBox: `${left} ${top} ${right - left} ${bottom - top}` });
    for (const one of series) {
      const at = one.points.map((p) => [x(p.x), y(p.y)]);
      if (!one.loose && at.length) clip.append(element("path", { d: "M" + at.map((p) => p.map((v) => v.toFixed(1)).join(",")).join("L"), fill: "none", stroke: one.colour, "stroke-width": one.style === 1 ? 2.4 : 1.6, "stroke-dasharray": DASHES[one.style % DASHES.length], "stroke-linejoin": "round" }));
      clip.append(element("path", { d: at.map((p) => MARKS[one.style % MARKS.length](...p)).join(""), fill: one.colour }));
    }
    svg.append(clip);
  }

  function point(event) {
    const area = svg.getBoundingClientRect();
    return [(event.clientX - area.left) * frame.width / area.width, (event.clientY - area.top) * frame.height / area.height];
  }

  function visible() {
    return series.map((one) => one.points.filter((p) => {
      const px = frame.x(p.x), py = frame.y(p.y);
      return px >= frame.left - 1 && px <= frame.right + 1 && py >= frame.top - 1 && py <= frame.bottom + 1;
    }));
  }

  function tell(one, p) {
    svg.querySelector(".halo")?.remove();
    if (!p) { readout.textContent = ""; return; }
    const px = frame.x(p.x), py = frame.y(p.y);
    svg.append(element("circle", { class: "halo", cx: px, cy: py, r: 7 }));
    readout.textContent = `${one.name}\n${p.text}`;
    const scale = svg.getBoundingClientRect().width / frame.width;
    readout.style.top = `${Math.max(0, py * scale - 30)}px`;
    if (px > frame.width / 2) { readout.style.right = `${(frame.width - px) * scale + 14}px`; readout.style.left = "auto"; }
    else { readout.style.left = `${px * scale + 14}px`; readout.style.right = "auto"; }
  }

  let start = null;
  svg.addEventListener("pointerdown", (event) => {
    if (!frame || event.button) return;
    start = point(event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!frame) return;
    const [px, py] = point(event);
    svg.querySelector(".box")?.remove();
    if (start) {
      tell();
      svg.append(element("rect", { class: "box", x: Math.min(px, start[0]), y: Math.min(py, start[1]), width: Math.abs(px - start[0]), height: Math.abs(py - start[1]) }));
      return;
    }
    let best = [20 ** 2];
    visible().forEach((points, i) => points.forEach((p) => {
      const distance = (frame.x(p.x) - px) ** 2 + (frame.y(p.y) - py) ** 2;
      if (distance < best[0]) best = [distance, series[i], p];
    }));
    tell(best[1], best[2]);
  });
  svg.addEventListener("pointerup", (event) => {
    svg.querySelector(".box")?.remove();
    if (!start) return;
    const [from, to] = [start, point(event)];
    start = null;
    if (Math.abs(from[0] - to[0]) < 8 || Math.abs(from[1] - to[1]) < 8) return;
    const { shown, left, right, top, bottom } = frame;
    const xs = [from[0], to[0]].map((v) => shown.x[0] + (shown.x[1] - shown.x[0]) * (v - left) / (right - left)).sort((a, b) => a - b);
    const ys = [from[1], to[1]].map((v) => shown.y[0] + (shown.y[1] - shown.y[0]) * (bottom - v) / (bottom - top)).sort((a, b) => a - b);
    zoomTo({ x: xs, y: ys });
  });
  svg.addEventListener("pointercancel", () => { start = null; svg.querySelector(".box")?.remove(); });
  svg.addEventListener("pointerleave", () => { if (!start && frame) tell(); });
  svg.addEventListener("dblclick", () => zoomTo(null));
  svg.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(0.6);
    else if (event.key === "-") zoom(1 / 0.6);
    else if (event.key === "0" || event.key === "Escape") zoomTo(null);
    else if (event.key.startsWith("Arrow") && frame) step(event.key);
    else return;
    event.preventDefault();
  });

  // Left and right go along a line, up and down to the next line.
  function step(key) {
    const points = visible(), lines = points.map((_, i) => i).filter((i) => points[i].length);
    if (!lines.length) return;
    const across = { ArrowUp: -1, ArrowDown: 1 }[key] || 0, along = { ArrowLeft: -1, ArrowRight: 1 }[key] || 0;
    const at = focus ? lines.indexOf(focus[0]) : 0;
    const line = lines[(at + (focus ? across : 0) + lines.length) % lines.length];
    const place = focus ? focus[1] + along : 0;
    focus = [line, Math.max(0, Math.min(points[line].length - 1, place))];
    tell(series[line], points[line][focus[1]]);
  }

  let drawnWidth = 0;
  new ResizeObserver(() => {
    if (container.clientWidth !== drawnWidth) { drawnWidth = container.clientWidth; paint(); }
  }).observe(container);

  return {
    draw(next, log, labels) {
      if (log !== logarithmic) view = null;
      [series, logarithmic] = [next, log];
      Object.assign(options, labels);
      focus = null;
      paint();
    },
    reset() { view = null; },
  };
}
