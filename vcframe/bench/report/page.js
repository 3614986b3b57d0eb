// Fills the page from its content; every number was worked out before.
"use strict";

(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const by = (id) => document.getElementById(id);
  const { systems, codecs, methods, images, comparisons } = content;
  const title = (i) => `${systems[i].method} ${systems[i].codec}`;
  const colour = (codec) => `var(--c${codecs.indexOf(codec) % 12})`;
  const style = (method) => { const i = methods.indexOf(method); return method === "plain" ? 0 : method === "vcframe" ? 1 : i + 2 - (methods.includes("plain") && i > 0); };
  const signed = (value, digits = 1) => (value > 0 ? "+" : "") + value.toFixed(digits);
  const labels = Object.fromEntries(content.metrics.map((metric) => [metric.name, metric.label]));

  function fill(select, pairs, onChange) {
    select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
    select.addEventListener("change", onChange);
  }

  function head(names) {
    return element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name))));
  }

  // The first cell of a row is its heading.
  function table(node, names, rows) {
    const lines = rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => {
      const value = typeof cell === "object" && cell !== null ? cell : { text: cell };
      const td = i ? element("td", value.key === undefined ? { class: "text" } : {}) : element("th", { scope: "row" });
      if (value.key !== undefined) td.dataset.key = value.key;
      td.append(value.text === null || value.text === undefined ? "n/a" : String(value.text));
      return td;
    })));
    node.replaceChildren(head(names), element("tbody", {}, ...lines));
    if (node.classList.contains("sortable")) makeSortable(node);
  }

  const number = (value, digits, text = "") => ({ text: value === null ? "n/a" : value.toFixed(digits) + text, key: value ?? Infinity });

  function makeSortable(node) {
    node.querySelectorAll("thead th").forEach((heading, column) => {
      const button = element("button", { type: "button" }, ...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        node.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
        const numeric = node.tBodies[0].rows[0]?.cells[column].dataset.key !== undefined;
        const compare = (a, b) => (numeric ? Number(key(a)) - Number(key(b)) || 0 : key(a).localeCompare(key(b), undefined, { numeric: true }));
        const rows = [...node.tBodies[0].rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
        node.tBodies[0].append(...rows);
      });
    });
  }

  // Curves

  const shown = { codecs: new Set(codecs), methods: new Set(methods), published: true };

  function toggles(container, names, set, mark) {
    for (const name of names) {
      const sample = element("svg", { width: 26, height: 12, "aria-hidden": "true" }, ...mark(name));
      const button = element("button", { type: "button", "aria-pressed": "true" }, sample, name);
      button.addEventListener("click", () => {
        set.has(name) ? set.delete(name) : set.add(name);
        button.setAttribute("aria-pressed", set.has(name));
        drawCurves();
      });
      container.append(button);
    }
  }

  const curveChart = makeChart(by("curve-chart"), { label: "Rate-distortion curves", xLabel: "bits per pixel", yLabel: "" });

  function curveSeries(metric, image) {
    const series = systems.map((system, i) => ({
      name: title(i), colour: colour(system.codec), style: style(system.method), system,
      lines: image === "" ? content.means[metric][i] : content.curves[metric][i][image],
    })).filter(({ system }) => shown.codecs.has(system.codec) && shown.methods.has(system.method));
    if (image === "") {
      for (const curve of content.published) {
        if (shown.methods.has("published") && curve.lines[metric]) series.push({ name: `${curve.name} (published)`, colour: "var(--soft)", style: 4, lines: curve.lines[metric] });
      }
    }
    for (const one of series) {
      one.points = one.lines.map(([x, y, quality, scale]) => ({
        x, y, quality, scale,
        text: `${x.toFixed(3)} bpp, ${y.toFixed(2)} ${labels[metric].match(/\((.*)\)/)?.[1].split(" ").pop() ?? ""}` + (quality === null ? "" : `\nquality ${quality}`) + (scale ? `, scale 1/${scale}` : ""),
      }));
    }
    return series.filter((one) => one.points.length);
  }

  function drawCurves() {
    const metric = by("curve-metric").value, image = by("curve-image").value;
    const series = curveSeries(metric, image);
    curveChart.draw(series, by("curve-log").checked, { yLabel: labels[metric], label: `Rate-distortion curves, ${labels[metric]} over bits per pixel. Arrow keys go from point to point.` });
    table(by("curve-table"), ["System", "bpp", labels[metric], "Quality", "Scale"],
      series.flatMap((one) => one.points.map((p) => [one.name, number(p.x, 4), number(p.y, 3), p.quality ?? "", p.scale ? `1/${p.scale}` : ""])));
  }

  // Deltas

  const judged = () => ({ metric: by("delta-metric").value, range: by("delta-range").value, common: by("delta-anchor").value === "common" });

  function anchorOf(i) {
    return judged().common ? content.anchor : systems.findIndex((s) => s.codec === systems[i].codec && s.method === "plain");
  }

  const isAnchor = (i) => i === anchorOf(i);

  function comparison(i) {
    const { metric, range } = judged();
    return comparisons.find((c) => c.system === i && c.anchor === anchorOf(i) && c.metric === metric && c.range === range);
  }

  function shade(percent) {
    const strength = Math.min(55, Math.abs(percent) * 1.2);
    return `color-mix(in srgb, var(${percent < 0 ? "--less" : "--more"}) ${strength}%, var(--surface))`;
  }

  function reasons(values) {
    const texts = [...new Set(values.filter((value) => typeof value === "string"))];
    return texts.length > 1 ? `${texts[0]}; and ${texts.length - 1} other reasons` : texts[0] ?? "not measured";
  }

  function matrixCell(i) {
    if (i < 0) return element("td", { class: "none" }, "not measured");
    if (isAnchor(i)) return element("td", { class: "none" }, "the anchor");
    const found = comparison(i);
    if (!found || found.rate.mean === null) return element("td", { class: "none" }, `n/a (${reasons(found?.rates ?? [])})`);
    const { mean, low, high, num_negative, num_images, num_missing } = found.rate;
    const cell = element("td", { class: "bar" }, element("strong", {}, `${signed(mean)} %`));
    if (low !== null) cell.append(element("small", {}, `${signed(low)} to ${signed(high)} %`));
    cell.append(element("small", {}, `fewer on ${num_negative} of ${num_images - num_missing}`));
    if (num_missing) cell.append(element("small", {}, `n/a on ${num_missing}`));
    cell.style.setProperty("--shade", shade(mean));
    return cell;
  }

  function drawDeltas() {
    const { metric } = judged();
    const compared = codecs.filter((codec) => systems.some((s, i) => s.codec === codec && !isAnchor(i)));
    const rows = compared.map((codec) => element("tr", {}, element("th", { scope: "row" }, codec),
      ...methods.map((method) => matrixCell(systems.findIndex((s) => s.codec === codec && s.method === method)))));
    const alone = codecs.filter((codec) => !compared.includes(codec));
    by("matrix-alone").textContent = alone.length ? `Measured without networks only: ${alone.join(", ")}.` : "";
    by("matrix-table").replaceChildren(head(["Codec", ...methods]), element("tbody", {}, ...rows));

    const unit = labels[metric].includes("(") ? " dB" : "";
    const wanted = by("picture-system").value;
    const lines = systems.flatMap((system, i) => {
      const found = wanted === "" || Number(wanted) === i ? comparison(i) : null;
      return found ? images.map((image, n) => {
        const [rate, gain] = [found.rates[n], found.gains[n]];
        return [image, system.codec, system.method,
          typeof rate === "number" ? { text: `${signed(rate, 2)} %`, key: rate } : { text: `n/a (${rate})`, key: Infinity },
          typeof gain === "number" ? { text: signed(gain, 2) + unit, key: gain } : { text: `n/a (${gain})`, key: Infinity }];
      }) : [];
    });
    table(by("picture-table"), ["Picture", "Codec", "Method", "BD-rate", "Gain at equal rate"], lines);
    drawMatched();
    drawSpeed();
  }

  function drawMatched() {
    const found = content.matched.find((one) => one.system === Number(by("matched-system").value) && one.metric === judged().metric);
    table(by("matched-table"), ["Quality of plain", "bpp of plain", "Bytes", "Pairs"],
      (found?.rows ?? []).map((row) => [row.quality, number(row.bpp, 4), { text: `${signed(row.percent)} %`, key: row.percent }, number(row.num_pairs, 0)]));
  }

  // Speed

  const speedChart = makeChart(by("speed-chart"), { label: "Time to decode and bytes", xLabel: "seconds to decode and restore a megapixel", yLabel: "BD-rate (%)" });

  function drawSpeed() {
    const sum = (...times) => times.reduce((all, time) => all + (time ?? 0), 0);
    const rows = content.speeds.map((speed) => ({ ...speed, decode: sum(speed.decode_s, speed.restore_s), mean: isAnchor(speed.system) ? 0 : comparison(speed.system)?.rate.mean ?? null }));
    const series = rows.filter((row) => row.decode > 0 && row.mean !== null).map((row) => {
      const system = systems[row.system];
      return { name: title(row.system), colour: colour(system.codec), style: style(system.method), loose: true,
        points: [{ x: row.decode, y: row.mean, text: `${row.decode.toPrecision(3)} s per megapixel\n${signed(row.mean)} % bytes` }] };
    });
    by("speed-chart").hidden = !series.length;
    speedChart.draw(series, true, {});
    const times = { encode_s: "Codec encodes, s", describe_s: "Describe, s", decode_s: "Codec decodes, s", restore_s: "Restore, s" };
    const taken = Object.keys(times).filter((key) => rows.some((row) => row[key] !== null));
    by("speed-note").textContent = taken.length
      ? "Medians in seconds per megapixel of the original, repeats counted once; memory is the largest of a worker process."
      : "This suite takes no times (timing = false): several files were made at once. The suite speed does.";
    const heads = taken.length ? [...taken.map((key) => times[key]), "Memory, MB"] : [];
    table(by("speed-table"), ["System", ...heads, "Files", "BD-rate"], rows.map((row) => {
      const cost = taken.length ? [...taken.map((key) => number(row[key], 3)), number(row.peak_bytes === null ? null : row.peak_bytes / 1e6, 0)] : [];
      return [title(row.system), ...cost, number(row.num_files, 0), number(row.mean, 1, " %")];
    }));
  }

  const metricPairs = content.metrics.map((metric) => [metric.name, metric.label]);
  const networks = systems.map((system, i) => [i, title(i)]).filter(([i]) => systems[i].method !== "plain");
  fill(by("curve-metric"), metricPairs, () => { curveChart.reset(); drawCurves(); });
  fill(by("curve-image"), [["", "mean of all pictures"], ...images.map((name, i) => [i, name])], () => { curveChart.reset(); drawCurves(); });
  by("curve-log").addEventListener("change", drawCurves);
  fill(by("delta-metric"), metricPairs, drawDeltas);
  fill(by("delta-range"), content.ranges.map((name) => [name, name]), drawDeltas);
  const anchors = [["own", "the same codec, plain"]];
  if (content.anchor !== null) anchors.push(["common", title(content.anchor)]);
  fill(by("delta-anchor"), anchors, drawDeltas);
  if (!networks.length) by("delta-anchor").value = "common";
  fill(by("matched-system"), networks, drawMatched);
  fill(by("picture-system"), [["", "all"], ...systems.map((_, i) => [i, title(i)])], drawDeltas);
  // The first range that has a number is the one to begin with.
  const first = content.ranges.find((range) => comparisons.some((c) => c.range === range && c.rate.mean !== null));
  if (first) by("delta-range").value = first;

  toggles(by("toggle-codecs"), codecs, shown.codecs, (codec) => [element("rect", { width: 26, height: 12, rx: 3, fill: colour(codec) })]);
  if (content.published.length) { methods.push("published"); shown.methods.add("published"); }
  toggles(by("toggle-methods"), methods, shown.methods, (method) => {
    const which = method === "published" ? 4 : style(method);
    return [element("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: "currentColor", "stroke-width": 1.6, "stroke-dasharray": DASHES[which % 5] }), element("path", { d: MARKS[which % 5](13, 6), fill: "currentColor" })];
  });
  if (content.published.length) methods.pop();

  drawCurves();
  drawDeltas();
  if (content.viewer.views.length) makeViewer(content.viewer.views);
})();
