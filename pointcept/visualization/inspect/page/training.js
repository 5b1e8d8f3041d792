// How renderings and figures changed over training: a strip of pictures, charts, and a table.

const FIGURES = [
  { key: "psnr", title: "PSNR of the colours (dB)", better: "higher is better", digits: 2 },
  { key: "abs_rel", title: "AbsRel of the depth", better: "lower is better", digits: 3 },
  { key: "normal_deg", title: "Angle between normals (°)", better: "lower is better", digits: 1 },
  { key: "feature_cosine", title: "Cosine of the features", better: "higher is better", digits: 3 },
];
const LINE_COLORS = ["#1f77d0", "#e0701a", "#2a9d5c", "#b04ac0"];
const CHART = { width: 420, height: 220, left: 46, right: 12, top: 40, bottom: 36 };

class TrainingPanel {
  constructor(onStep) {
    this.onStep = onStep;
    this.strip = document.getElementById("strip");
  }

  async showScene(scene, view, target) {
    const { width, height } = scene.views[view];
    const put = (canvas, color) => paint(canvas, width, height, (p) => color.data.subarray(3 * p, 3 * p + 3));
    this.strip.innerHTML = "<figure><canvas></canvas><figcaption>measured</figcaption></figure>";
    put(this.strip.querySelector("canvas"), target[`view${view}_color`]);
    const buttons = scene.steps.map((step, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = `<canvas></canvas>${escapeText(step.label)}<br><small>${step.figures[view].psnr.toFixed(2)} dB</small>`;
      button.addEventListener("click", () => this.onStep(index));
      this.strip.append(button);
      return button;
    });
    this.drawTable(scene);
    for (const [index, step] of scene.steps.entries()) {
      const color = (await arraysOf(step.block))[`view${view}_color`];
      put(buttons[index].firstElementChild, color);
    }
  }

  show(scene, current, view) {
    [...this.strip.querySelectorAll("button")].forEach((button, index) => button.setAttribute("aria-current", index === current));
    const shown = FIGURES.filter(({ key }) => scene.steps.some((step) => step.figures.some((f) => key in f)));
    document.getElementById("charts").innerHTML = scene.steps.length > 1 ? shown.map((figure) => this.chart(scene, figure, current, view)).join("") : "";
  }

  chart(scene, { key, title, better, digits }, current, view) {
    const at = scene.steps.map((step, index) => step.step ?? index);
    const values = scene.steps.flatMap((step) => step.figures.map((f) => f[key]).filter((v) => v !== undefined));
    const low = Math.min(...values), high = Math.max(...values), pad = 0.08 * (high - low) || 0.5;
    const x = linear([at[0], at[at.length - 1]], [CHART.left, CHART.width - CHART.right]);
    const y = linear([low - pad, high + pad], [CHART.height - CHART.bottom, CHART.top]);
    const grid = ticks(low - pad, high + pad, 4).map((value) =>
      `<line class="grid" x1="${CHART.left}" x2="${CHART.width - CHART.right}" y1="${y(value)}" y2="${y(value)}"/><text x="${CHART.left - 5}" y="${y(value) + 4}" text-anchor="end">${value}</text>`).join("");
    const marks = ticks(at[0], at[at.length - 1], 4).map((value) => `<text x="${x(value)}" y="${CHART.height - CHART.bottom + 15}" text-anchor="middle">${value}</text>`).join("");
    const lines = scene.views.filter((v) => !v.is_input).map((v, index) => {
      const points = scene.steps.map((step, i) => [x(at[i]), step.figures[index][key]]).filter(([, value]) => value !== undefined);
      const color = LINE_COLORS[index % LINE_COLORS.length], width = index === view ? 2.6 : 1.2;
      return `<path class="line" style="stroke:${color};stroke-width:${width}" d="${points.map(([px, value], i) => `${i ? "L" : "M"}${px},${y(value)}`).join("")}"/>` +
        points.map(([px, value]) => `<circle r="${index === view ? 3 : 2}" cx="${px}" cy="${y(value)}" fill="${color}"/>`).join("");
    }).join("");
    const now = scene.steps[current].figures[view][key];
    return `<svg viewBox="0 0 ${CHART.width} ${CHART.height}" role="img" aria-label="${title} over training, now ${now === undefined ? "unknown" : now.toFixed(digits)}">` +
      `<text class="title" x="4" y="13">${title}</text><text x="4" y="29">${better}; view ${view}: ${now === undefined ? "–" : now.toFixed(digits)}</text>${grid}${marks}` +
      `<line class="cursor" x1="${x(at[current])}" x2="${x(at[current])}" y1="${CHART.top}" y2="${CHART.height - CHART.bottom}"/>${lines}` +
      `<text x="${(CHART.left + CHART.width) / 2}" y="${CHART.height - 5}" text-anchor="middle">step</text></svg>`;
  }

  drawTable(scene) {
    const shown = FIGURES.filter(({ key }) => scene.steps.some((step) => step.figures.some((f) => key in f)));
    const head = shown.map((figure) => `<th scope="col">${figure.title}</th>`).join("");
    const rows = scene.steps.flatMap((step) => step.figures.map((figures, view) =>
      `<tr><td>${escapeText(step.label)}, view ${view}</td>${shown.map(({ key, digits }) => `<td>${key in figures ? figures[key].toFixed(digits) : "–"}</td>`).join("")}</tr>`));
    document.getElementById("table").innerHTML = `<table><thead><tr><th scope="col">Step and view</th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }
}
