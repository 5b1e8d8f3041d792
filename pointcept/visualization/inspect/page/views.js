// Pictures of the chosen view: measured, rendered and the difference, one row per quantity.

const COLOR_LIMIT = 0.5, DEPTH_LIMIT_M = 0.5, ANGLE_LIMIT_DEG = 90;

function pictureRows(target, rendered, index, range, unit) {
  const name = (part) => `view${index}_${part}`;
  const bytes = (array) => (pixel) => array.data.subarray(3 * pixel, 3 * pixel + 3);
  const color = [target[name("color")], rendered[name("color")]];
  const depth = [target[name("depth")], rendered[name("depth")]].map((array) => array.data);
  const depthColor = (values) => (pixel) =>
    values[pixel] ? scaleColor((values[pixel] * unit - range[0]) / (range[1] - range[0])) : MISSING;
  const metres = (whole) => `${(whole * unit).toFixed(2)} m`;
  const angle = rendered[name("angle")].data;
  const rows = [
    {
      kind: "Colour", note: "RGB, 0 to 1", cells: color.map(bytes),
      difference: (p) => scaleColor(colorError(color[0].data, color[1].data, p) / COLOR_LIMIT),
      legend: legend("mean difference", scaleColor, "0", `≥ ${COLOR_LIMIT}`, ""),
      read: (p) => [describeColor(color[0].data, p), describeColor(color[1].data, p), colorError(color[0].data, color[1].data, p).toFixed(2)],
    },
    {
      kind: "Depth", note: "along the optical axis", cells: depth.map(depthColor),
      difference: (p) => (depth[0][p] ? scaleColor((Math.abs(depth[1][p] - depth[0][p]) * unit) / DEPTH_LIMIT_M) : MISSING),
      legend: legend("depth", scaleColor, `${range[0].toFixed(1)} m`, `${range[1].toFixed(1)} m`, "not measured") +
        legend("difference", scaleColor, "0 m", `≥ ${DEPTH_LIMIT_M} m`, ""),
      read: (p) => [depth[0][p] ? metres(depth[0][p]) : "not measured", metres(depth[1][p]), depth[0][p] ? metres(Math.abs(depth[1][p] - depth[0][p])) : "–"],
    },
    {
      kind: "Normals", note: "camera frame: right is red, up green, towards the camera blue",
      cells: [bytes(target[name("normal")]), bytes(rendered[name("normal")])],
      difference: (p) => (angle[p] === 255 ? MISSING : scaleColor(angle[p] / ANGLE_LIMIT_DEG)),
      legend: legend("angle between", scaleColor, "0°", `≥ ${ANGLE_LIMIT_DEG}°`, ""),
      read: (p) => ["", "", angle[p] === 255 ? "–" : `${angle[p]}°`],
    },
  ];
  const feature = [target[name("feature")], rendered[name("feature")]];
  if (feature[1]) {
    const cosine = rendered[name("cosine")];
    rows.push({
      kind: "Features", note: FEATURE_NOTES[facts.features] + "; first three principal components as red, green, blue",
      cells: feature.map((array) => (array ? bytes(array) : null)),
      absent: facts.features === "teacher" ? "the teacher's weights were not found" : "these views have no labels",
      difference: cosine ? (p) => (cosine.data[p] === 255 ? MISSING : scaleColor(cosine.data[p] / 127)) : null,
      legend: cosine ? legend("cosine", scaleColor, "1", "≤ 0", "") : "",
      read: (p) => ["", "", cosine && cosine.data[p] !== 255 ? `cosine ${(1 - cosine.data[p] / 127).toFixed(2)}` : "–"],
    });
  }
  const opacity = rendered[name("opacity")].data;
  rows.push({
    kind: "Opacity", note: "sum of the weights of a ray: black 0, white 1",
    cells: [null, (p) => [opacity[p], opacity[p], opacity[p]]], absent: "", difference: null, legend: "",
    read: (p) => ["", (opacity[p] / 255).toFixed(2), ""],
  });
  return rows;
}

function colorError(a, b, pixel) {
  const i = 3 * pixel;
  return (Math.abs(a[i] - b[i]) + Math.abs(a[i + 1] - b[i + 1]) + Math.abs(a[i + 2] - b[i + 2])) / 3 / 255;
}

const describeColor = (data, pixel) => `(${[0, 1, 2].map((c) => (data[3 * pixel + c] / 255).toFixed(2)).join(", ")})`;

const FEATURE_NOTES = { teacher: "of the image teacher", class: "class embeddings" };

const CAPTIONS = {
  Colour: (f) => `PSNR ${f.psnr.toFixed(2)} dB`,
  Depth: (f) => ("abs_rel" in f ? `AbsRel ${f.abs_rel.toFixed(3)}, RMSE ${f.rmse.toFixed(2)} m` : "no depth was measured"),
  Normals: (f) => ("normal_deg" in f ? `mean angle ${f.normal_deg.toFixed(1)}°` : ""),
  Features: (f) => ("feature_cosine" in f ? `mean cosine ${f.feature_cosine.toFixed(3)}` : ""),
};

class Pictures {
  constructor(onPick) {
    this.root = document.getElementById("pictures");
    this.readout = document.getElementById("readout");
    this.onPick = onPick;
  }

  show(view, figures, rows, pixel) {
    this.view = view;
    this.rows = rows;
    const focused = document.activeElement?.dataset?.cell;
    this.root.innerHTML = ["", "Measured", "Rendered", "Difference"].map((text, index) => `<div class="column ${index ? "" : "corner"}">${text}</div>`).join("");
    rows.forEach((row, r) => {
      const heading = document.createElement("div");
      heading.className = "kind";
      heading.innerHTML = `${row.kind}<small>${row.note}</small>${row.legend}`;
      this.root.append(heading);
      [...row.cells, row.difference].forEach((cell, c) => {
        const caption = c === 1 && row.kind in CAPTIONS ? CAPTIONS[row.kind](figures) : "";
        this.root.append(cell ? this.figure(row, r, cell, c, caption) : this.absent(c === 0 ? row.absent : ""));
      });
    });
    this.mark(pixel);
    if (focused) this.root.querySelector(`[data-cell="${focused}"]`)?.focus();
  }

  figure(row, r, colorAt, c, caption) {
    const figure = document.createElement("figure");
    const box = document.createElement("div");
    const canvas = document.createElement("canvas");
    box.className = "picture";
    box.tabIndex = 0;
    box.dataset.cell = `${r}-${c}`;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${row.kind}, ${["measured", "rendered", "difference"][c]}. ${caption}`);
    paint(canvas, this.view.width, this.view.height, colorAt);
    const mark = document.createElement("span");
    mark.className = "mark";
    box.append(canvas, mark);
    box.addEventListener("click", (event) => this.onPick(this.pixelAt(box, event)));
    box.addEventListener("pointermove", (event) => this.read(this.pixelAt(box, event)));
    box.addEventListener("pointerleave", () => this.read(this.pixel));
    box.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      this.onPick(this.pixel, move);
    });
    figure.append(box);
    const text = document.createElement("figcaption");
    text.textContent = caption;
    figure.append(text);
    return figure;
  }

  absent(text) {
    const box = document.createElement("div");
    if (text) { box.className = "absent"; box.textContent = text; }
    return box;
  }

  pixelAt(box, event) {
    const area = box.getBoundingClientRect();
    const share = [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
    const size = [this.view.width, this.view.height];
    return share.map((value, axis) => Math.max(0, Math.min(size[axis] - 1, Math.floor(value * size[axis]))));
  }

  mark(pixel) {
    this.pixel = pixel;
    for (const mark of this.root.querySelectorAll(".mark")) {
      mark.style.left = `${(100 * (pixel[0] + 0.5)) / this.view.width}%`;
      mark.style.top = `${(100 * (pixel[1] + 0.5)) / this.view.height}%`;
    }
    this.read(pixel);
  }

  read(pixel) {
    const index = pixel[1] * this.view.width + pixel[0];
    const parts = this.rows.slice(0, 3).map((row) => {
      const [measured, rendered, difference] = row.read(index);
      if (row.kind === "Normals") return `normals differ by ${difference}`;
      return `${row.kind.toLowerCase()} measured ${measured}, rendered ${rendered}, difference ${difference}`;
    });
    this.readout.textContent = `Column ${pixel[0]}, row ${pixel[1]}: ${parts.join("; ")}`;
  }
}
