// One ray taken apart: weights, signed distance and colour of its samples over the distance along the ray.

const PLOT = { width: 620, left: 52, right: 14, parts: { weight: [54, 150], sdf: [184, 284], color: [308, 328] }, height: 366 };

class RayPlot {
  constructor() {
    this.root = document.getElementById("ray-plot");
    this.summary = document.getElementById("ray-summary");
    this.readout = document.getElementById("ray-readout");
  }

  show(ray) {
    this.ray = ray;
    if (!ray.valid) {
      this.root.innerHTML = "";
      this.readout.textContent = "";
      this.summary.textContent = `The ray of column ${ray.pixel[0]}, row ${ray.pixel[1]} misses the scene's box: nothing is rendered for it.`;
      return;
    }
    const count = ray.distance.length;
    const low = ray.distance[0], high = Math.max(ray.distance[count - 1], ray.measured || 0);
    const pad = 0.02 * (high - low);
    this.x = linear([low - pad, high + pad], [PLOT.left, PLOT.width - PLOT.right]);
    const opacity = ray.weight.reduce((sum, value) => sum + value, 0);
    const where = ray.measured
      ? `measured at ${ray.measured.toFixed(2)} m, so it is ${Math.abs(ray.rendered - ray.measured).toFixed(2)} m too ${ray.rendered < ray.measured ? "near" : "far"}`
      : "nothing was measured there";
    this.summary.textContent = `Column ${ray.pixel[0]}, row ${ray.pixel[1]}: rendered at ${ray.rendered.toFixed(2)} m; ${where}. ${count} samples, opacity ${opacity.toFixed(2)}.`;
    this.root.innerHTML = this.picture(ray);
    const svg = this.root.firstElementChild;
    svg.addEventListener("pointermove", (event) => this.hover(svg, event));
    svg.addEventListener("pointerleave", () => this.select(-1));
    this.select(-1);
  }

  picture(ray) {
    const { x } = this, { parts } = PLOT, bottom = parts.color[1];
    const top = Math.max(1e-3, ...ray.weight) * 1.08;
    const limit = Math.max(0.05, ...ray.sdf.map(Math.abs).filter((_, i) => ray.weight[i] > 1e-3), Math.min(1, Math.max(...ray.sdf.map(Math.abs))));
    const weight = linear([0, top], [parts.weight[1], parts.weight[0]]);
    const sdf = linear([-limit, limit], [parts.sdf[1], parts.sdf[0]]);
    const clip = (value) => Math.max(-limit, Math.min(limit, value));
    const edges = ray.distance.map((d, i) => (i ? (d + ray.distance[i - 1]) / 2 : d));
    edges.push(ray.distance[ray.distance.length - 1]);
    let area = `M${x(edges[0])},${weight(0)}`;
    ray.weight.forEach((value, i) => (area += `L${x(edges[i])},${weight(value)}L${x(edges[i + 1])},${weight(value)}`));
    area += `L${x(edges[edges.length - 1])},${weight(0)}Z`;
    const curve = ray.sdf.map((value, i) => `${i ? "L" : "M"}${x(ray.distance[i])},${sdf(clip(value))}`).join("");
    const strip = ray.color.map((c, i) => `<rect x="${x(edges[i])}" width="${Math.max(0.6, x(edges[i + 1]) - x(edges[i]) + 0.4)}" y="${parts.color[0]}" height="${parts.color[1] - parts.color[0]}" fill="${cssColor(c)}"/>`).join("");
    const dots = ray.sdf.map((value, i) => `<circle class="dot" r="1.7" cx="${x(ray.distance[i])}" cy="${sdf(clip(value))}"/>`).join("");
    const line = (kind, at) => `<line class="${kind}" x1="${x(at)}" x2="${x(at)}" y1="${parts.weight[0] - 4}" y2="${bottom}"/>`;
    const measuredFirst = ray.measured && ray.measured <= ray.rendered;
    const tag = (kind, text, at, first) =>
      `<text class="${kind}-text" x="${x(at) + (first ? -4 : 4)}" y="30" text-anchor="${first ? "end" : "start"}">${text}</text>`;
    const near = (at) => x(at) < PLOT.left + 90, far = (at) => x(at) > PLOT.width - 100;
    const side = (at, first) => (near(at) ? false : far(at) ? true : first);
    return `<svg viewBox="0 0 ${PLOT.width} ${PLOT.height}" role="img" aria-label="${escapeText(this.summary.textContent)}">` +
      axisX(x, PLOT, bottom, "distance along the ray (m)", parts.weight[0]) +
      axisY(weight, [0, top], parts.weight, "Weight in the rendering") +
      axisY(sdf, [-limit, limit], parts.sdf, "Signed distance (m)") +
      `<line class="zero" x1="${PLOT.left}" x2="${PLOT.width - PLOT.right}" y1="${sdf(0)}" y2="${sdf(0)}"/>` +
      `<path class="weight" d="${area}"/><path class="sdf" d="${curve}"/>${dots}${strip}` +
      `<text class="title" x="${PLOT.left}" y="${parts.color[0] - 4}">Colour of the field</text>` +
      (ray.measured ? line("measured", ray.measured) + tag("measured", "measured", ray.measured, side(ray.measured, measuredFirst)) : "") +
      line("rendered", ray.rendered) + tagBelow(ray, x, tag, side, measuredFirst) +
      `<line class="cursor" y1="${parts.weight[0]}" y2="${bottom}" visibility="hidden"/></svg>`;
  }

  hover(svg, event) {
    const area = svg.getBoundingClientRect();
    const at = this.x.inverse(((event.clientX - area.left) / area.width) * PLOT.width);
    let best = 0;
    this.ray.distance.forEach((d, i) => { if (Math.abs(d - at) < Math.abs(this.ray.distance[best] - at)) best = i; });
    this.select(best);
  }

  select(index) {
    const cursor = this.root.querySelector(".cursor");
    cursor.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) {
      this.readout.textContent = "Point at the plot to read one sample.";
      return;
    }
    const { ray } = this, at = this.x(ray.distance[index]);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    const color = ray.color[index].map((value) => (value / 255).toFixed(2)).join(", ");
    this.readout.textContent = `Sample ${index + 1} of ${ray.distance.length}: at ${ray.distance[index].toFixed(3)} m, weight ${ray.weight[index].toFixed(3)}, signed distance ${ray.sdf[index].toFixed(3)} m, colour (${color})`;
  }
}

function tagBelow(ray, x, tag, side, measuredFirst) {
  const text = tag("rendered", "rendered", ray.rendered, side(ray.rendered, !measuredFirst));
  const crowded = ray.measured && side(ray.rendered, !measuredFirst) === side(ray.measured, measuredFirst) && Math.abs(x(ray.rendered) - x(ray.measured)) < 80;
  return crowded ? text.replace('y="30"', 'y="45"') : text;
}

function linear([a, b], [c, d]) {
  const map = (value) => Math.round((c + ((value - a) / (b - a)) * (d - c)) * 100) / 100;
  map.inverse = (value) => a + ((value - c) / (d - c)) * (b - a);
  map.domain = [a, b];
  return map;
}

function ticks(low, high, count) {
  const raw = (high - low) / count, scale = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * scale).find((candidate) => candidate >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

function axisX(scale, plot, bottom, label, top) {
  const marks = ticks(...scale.domain, 7).map((value) =>
    `<line class="grid" x1="${scale(value)}" x2="${scale(value)}" y1="${top}" y2="${bottom}"/><text x="${scale(value)}" y="${bottom + 15}" text-anchor="middle">${value}</text>`);
  return marks.join("") + `<text x="${(plot.left + plot.width - plot.right) / 2}" y="${bottom + 32}" text-anchor="middle">${label}</text>`;
}

function axisY(scale, domain, [top, bottom], label) {
  const marks = ticks(...domain, 3).map((value) =>
    `<line class="grid" x1="${PLOT.left}" x2="${PLOT.width - PLOT.right}" y1="${scale(value)}" y2="${scale(value)}"/><text x="${PLOT.left - 6}" y="${scale(value) + 4}" text-anchor="end">${value}</text>`);
  return marks.join("") + `<text class="title" x="${PLOT.left}" y="${top - (label.startsWith("Weight") ? 42 : 8)}">${label}</text>`;
}
