// A horizontal slice of the signed distance, with its zero level, the cameras and the chosen ray seen from above.

const SLICE_MARGIN = { left: 46, right: 12, top: 10, bottom: 34 };
const FINE = 3;  // pixels between two samples of the grid

class SlicePanel {
  constructor() {
    this.canvas = document.getElementById("slice-canvas");
    this.readout = document.getElementById("slice-readout");
    this.canvas.addEventListener("pointermove", (event) => this.read(event));
    this.canvas.addEventListener("pointerleave", () => this.idle());
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
  }

  show(grid, level, views, chosen, ray) {
    Object.assign(this, { grid, level, views, chosen, ray });
    document.getElementById("slice-legend").innerHTML = legend("signed distance", (share) => signedColor((2 * share - 1) * grid.limit, grid.limit), `≤ −${grid.limit} m, inside`, `≥ ${grid.limit} m, free`, "") +
      '<p class="hint">The line is the zero level: the surface. Triangles are cameras: blue the chosen view, dark the other views, grey views that only the encoder sees. The dashed line is the chosen ray, with a dot where it is rendered and a ring where it was measured.</p>';
    this.draw();
    this.idle();
  }

  idle() {
    if (!this.grid) return;
    this.readout.textContent = `Seen from above at z = ${this.height().toFixed(2)} m (world frame). Point at it to read a value.`;
  }

  height() { return this.grid.origin[2] + this.level * this.grid.spacing; }

  value(x, y) {  // bilinear, in grid units
    const { data, shape } = this.grid, [, rows, columns] = shape;
    const c = Math.max(0, Math.min(columns - 1.001, x)), r = Math.max(0, Math.min(rows - 1.001, y));
    const i = Math.floor(c), j = Math.floor(r), u = c - i, v = r - j;
    const at = (this.level * rows + j) * columns + i;
    return ((data[at] * (1 - u) + data[at + 1] * u) * (1 - v) + (data[at + columns] * (1 - u) + data[at + columns + 1] * u) * v) * this.grid.unit;
  }

  draw() {
    if (!this.grid) return;
    const { grid, canvas } = this, [, rows, columns] = grid.shape;
    const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
    const width = canvas.parentElement.clientWidth - 32, ratio = window.devicePixelRatio || 1;
    const inner = width - SLICE_MARGIN.left - SLICE_MARGIN.right;
    const scale = Math.min(inner / (columns - 1), 460 / (rows - 1));
    const height = scale * (rows - 1) + SLICE_MARGIN.top + SLICE_MARGIN.bottom;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.toScreen = (x, y) => [
      SLICE_MARGIN.left + ((x - grid.origin[0]) / grid.spacing) * scale,
      SLICE_MARGIN.top + (rows - 1 - (y - grid.origin[1]) / grid.spacing) * scale,
    ];
    this.fromScreen = (x, y) => [(x - SLICE_MARGIN.left) / scale, rows - 1 - (y - SLICE_MARGIN.top) / scale];

    const picture = document.createElement("canvas");
    const wide = (columns - 1) * FINE + 1, high = (rows - 1) * FINE + 1;
    const values = new Float32Array(wide * high);
    paint(picture, wide, high, (index) => {
      const x = (index % wide) / FINE, y = rows - 1 - Math.floor(index / wide) / FINE;
      values[index] = this.value(x, y);
      return signedColor(values[index], grid.limit);
    });
    context.drawImage(picture, SLICE_MARGIN.left, SLICE_MARGIN.top, scale * (columns - 1), scale * (rows - 1));
    this.drawZero(context, values, wide, high, scale / FINE);
    this.drawAxes(context, color, scale, rows, columns);
    this.drawCameras(context, color);
    canvas.setAttribute("aria-label", `Signed distance at a height of ${this.height().toFixed(2)} metres, seen from above, with its zero level and ${this.views.length} cameras`);
  }

  drawZero(context, values, wide, high, step) {  // marching squares
    context.beginPath();
    const cut = (a, b) => a / (a - b);
    for (let j = 0; j < high - 1; j++) {
      for (let i = 0; i < wide - 1; i++) {
        const at = j * wide + i, a = values[at], b = values[at + 1], c = values[at + wide + 1], d = values[at + wide];
        const points = [];
        if (a < 0 !== b < 0) points.push([i + cut(a, b), j]);
        if (b < 0 !== c < 0) points.push([i + 1, j + cut(b, c)]);
        if (d < 0 !== c < 0) points.push([i + cut(d, c), j + 1]);
        if (a < 0 !== d < 0) points.push([i, j + cut(a, d)]);
        for (let k = 0; k + 1 < points.length; k += 2) {
          context.moveTo(SLICE_MARGIN.left + points[k][0] * step, SLICE_MARGIN.top + points[k][1] * step);
          context.lineTo(SLICE_MARGIN.left + points[k + 1][0] * step, SLICE_MARGIN.top + points[k + 1][1] * step);
        }
      }
    }
    context.strokeStyle = "#111";
    context.lineWidth = 1.8;
    context.stroke();
  }

  drawAxes(context, color, scale, rows, columns) {
    const { origin, spacing } = this.grid, bottom = SLICE_MARGIN.top + scale * (rows - 1);
    context.fillStyle = color("--muted");
    context.strokeStyle = color("--line");
    context.lineWidth = 1;
    context.strokeRect(SLICE_MARGIN.left, SLICE_MARGIN.top, scale * (columns - 1), scale * (rows - 1));
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    for (const value of ticks(origin[0], origin[0] + spacing * (columns - 1), 6)) context.fillText(value, this.toScreen(value, 0)[0], bottom + 15);
    context.fillText("x (m)", SLICE_MARGIN.left + (scale * (columns - 1)) / 2, bottom + 30);
    context.textAlign = "right";
    for (const value of ticks(origin[1], origin[1] + spacing * (rows - 1), 6)) context.fillText(value, SLICE_MARGIN.left - 6, this.toScreen(0, value)[1] + 4);
    context.save();
    context.translate(12, SLICE_MARGIN.top + (scale * (rows - 1)) / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText("y (m)", 0, 0);
    context.restore();
  }

  drawCameras(context, color) {
    const { ray } = this;
    this.views.forEach((view, index) => {
      const center = cameraCenter(view), size = 0.35;
      const ends = [0, view.width - 1].map((column) => along(center, pixelDirection(view, column, view.height / 2), size));
      context.beginPath();
      context.moveTo(...this.toScreen(...center));
      for (const end of ends) context.lineTo(...this.toScreen(...end));
      context.closePath();
      context.fillStyle = index === this.chosen ? color("--accent") : view.is_input ? "#7c8795" : "#2b3440";
      context.fill();
      context.strokeStyle = "#fff";
      context.lineWidth = 1;
      context.stroke();
    });
    if (!ray || !ray.valid) return;
    const start = ray.origin, end = along(start, ray.direction, Math.max(ray.rendered, ray.measured));
    context.strokeStyle = "#111";
    context.setLineDash([5, 4]);
    context.lineWidth = 1.4;
    context.beginPath();
    context.moveTo(...this.toScreen(...start));
    context.lineTo(...this.toScreen(...end));
    context.stroke();
    context.setLineDash([]);
    const circle = (distance, radius) => {
      context.beginPath();
      context.arc(...this.toScreen(...along(start, ray.direction, distance)), radius, 0, 2 * Math.PI);
    };
    if (ray.measured) {
      circle(ray.measured, 6);
      context.stroke();
    }
    circle(ray.rendered, 3.2);
    context.fillStyle = "#111";
    context.fill();
  }

  read(event) {
    const area = this.canvas.getBoundingClientRect();
    const [x, y] = this.fromScreen(event.clientX - area.left, event.clientY - area.top);
    const [, rows, columns] = this.grid.shape;
    if (x < 0 || y < 0 || x > columns - 1 || y > rows - 1) return this.idle();
    const value = this.value(x, y), { origin, spacing, limit } = this.grid;
    const text = Math.abs(value) >= limit ? `${value < 0 ? "at most −" : "at least "}${limit.toFixed(2)}` : value.toFixed(2);
    this.readout.textContent = `x ${(origin[0] + x * spacing).toFixed(2)}, y ${(origin[1] + y * spacing).toFixed(2)}, z ${this.height().toFixed(2)} m: signed distance ${text} m`;
  }
}
