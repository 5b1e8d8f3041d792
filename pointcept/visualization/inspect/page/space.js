// The surface, the input points, the cameras and the chosen ray in space: WebGL with an orbiting camera.

const VERTEX_SHADER = `#version 300 es
uniform mat4 projection;
uniform vec3 eye;
uniform float pointSize;
in vec3 position;
in vec3 normal;
in vec3 color;
out vec3 shade;
void main() {
  gl_Position = projection * vec4(position, 1.0);
  gl_PointSize = pointSize;
  float light = dot(normal, normal) > 0.5 ? 0.35 + 0.65 * abs(dot(normal, normalize(eye - position))) : 1.0;
  shade = color * light;
}`;
const FRAGMENT_SHADER = `#version 300 es
precision mediump float;
in vec3 shade;
out vec4 result;
void main() { result = vec4(shade, 1.0); }`;

const START = { azimuth: -0.9, elevation: 0.75 };

class SpacePanel {
  constructor() {
    this.canvas = document.getElementById("space-canvas");
    this.summary = document.getElementById("space-summary");
    this.gl = this.canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    this.buffers = {};
    if (!this.gl) {
      this.summary.textContent = "This browser has no WebGL 2, which the picture in space needs. Everything else on the page works without it.";
      this.canvas.hidden = true;
      return;
    }
    this.program = this.compile();
    for (const id of ["show-surface", "show-back", "show-points", "show-cameras"]) document.getElementById(id).addEventListener("change", () => this.draw());
    document.getElementById("surface-color").addEventListener("change", () => { this.uploadSurface(); this.draw(); });
    document.getElementById("reset").addEventListener("click", () => this.reset());
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  compile() {
    const { gl } = this, program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    ["position", "normal", "color"].forEach((name, index) => gl.bindAttribLocation(program, index, name));
    gl.linkProgram(program);
    return program;
  }

  showScene(box, cloud) {
    if (!this.gl) return;
    this.box = box;
    const gray = new Float32Array(cloud.data.length).fill(0.72);
    this.buffers.points = this.upload(cloud.data, null, gray);
    this.reset();
  }

  show(surface, views, chosen, ray) {
    if (!this.gl) return;
    if (surface !== this.surface) {
      this.surface = surface;
      this.uploadSurface();
    }
    this.views = views;
    this.uploadLines(views, chosen, ray);
    const count = surface.faces.length / 3;
    this.summary.textContent = (count ? `${count.toLocaleString("en")} triangles` : "No surface: the signed distance has no zero level where something was observed") +
      `; the box is ${[0, 1, 2].map((a) => (this.box[3 + a] - this.box[a]).toFixed(1)).join(" × ")} m.`;
    this.canvas.setAttribute("aria-label", `Surface with ${count} triangles and ${views.length} cameras in space`);
    this.draw();
  }

  uploadSurface() {
    const { vertices, normals, colors, faces } = this.surface;
    const kind = document.getElementById("surface-color").value;
    const shown = new Float32Array(vertices.length);
    for (let i = 0; i < shown.length; i++) shown[i] = kind === "color" ? colors[i] / 255 : kind === "normal" ? 0.5 + 0.5 * normals[i] : 0.8;
    this.free(this.buffers.surface);
    this.buffers.surface = this.upload(vertices, normals, shown, faces);
  }

  uploadLines(views, chosen, ray) {
    const positions = [], colors = [];
    const line = (a, b, color) => { positions.push(...a, ...b); colors.push(...color, ...color); };
    const b = this.box, corner = (i) => [b[i & 1 ? 3 : 0], b[i & 2 ? 4 : 1], b[i & 4 ? 5 : 2]];
    for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) if (!(i & bit)) line(corner(i), corner(i | bit), [0.38, 0.43, 0.5]);
    this.numBoxVertices = positions.length / 3;
    views.forEach((view, index) => {
      const color = index === chosen ? [0.45, 0.68, 1] : view.is_input ? [0.62, 0.62, 0.62] : [1, 0.86, 0.4];
      const center = cameraCenter(view);
      const ends = [[0, 0], [view.width - 1, 0], [view.width - 1, view.height - 1], [0, view.height - 1]].map(([c, r]) => {
        const direction = pixelDirection(view, c, r);
        return center.map((value, axis) => value + 0.35 * direction[axis]);
      });
      ends.forEach((end, i) => { line(center, end, color); line(end, ends[(i + 1) % 4], color); });
    });
    this.free(this.buffers.ends);
    this.buffers.ends = null;
    if (ray && ray.valid) {
      const rendered = along(ray.origin, ray.direction, ray.rendered);
      line(ray.origin, rendered, [0.45, 0.68, 1]);
      const spots = [...rendered], spotColors = [0.45, 0.68, 1];
      if (ray.measured) {
        const measured = along(ray.origin, ray.direction, ray.measured);
        line(rendered, measured, [0.98, 0.57, 0.24]);
        spots.push(...measured);
        spotColors.push(0.98, 0.57, 0.24);
      }
      this.buffers.ends = this.upload(new Float32Array(spots), null, new Float32Array(spotColors));
    }
    this.free(this.buffers.lines);
    this.buffers.lines = this.upload(new Float32Array(positions), null, new Float32Array(colors));
  }

  upload(positions, normals, colors, faces) {
    const { gl } = this, array = gl.createVertexArray(), owned = [];
    gl.bindVertexArray(array);
    [positions, normals, colors].forEach((values, index) => {
      if (!values) {
        gl.disableVertexAttribArray(index);
        return;
      }
      const buffer = gl.createBuffer();
      owned.push(buffer);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(index);
      gl.vertexAttribPointer(index, 3, gl.FLOAT, false, 0, 0);
    });
    let count = positions.length / 3;
    if (faces) {
      const buffer = gl.createBuffer();
      owned.push(buffer);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(faces), gl.STATIC_DRAW);
      count = faces.length;
    }
    gl.bindVertexArray(null);
    return { array, owned, count };
  }

  free(mesh) {
    if (!mesh) return;
    mesh.owned.forEach((buffer) => this.gl.deleteBuffer(buffer));
    this.gl.deleteVertexArray(mesh.array);
  }

  reset() {
    if (!this.gl || !this.box) return;
    const b = this.box, extent = [0, 1, 2].map((axis) => b[3 + axis] - b[axis]);
    this.orbit = { ...START, distance: 1.4 * Math.hypot(...extent), target: [0, 1, 2].map((axis) => (b[axis] + b[3 + axis]) / 2) };
    this.orbit.farthest = this.orbit.distance;
    this.draw();
  }

  eye() {
    const { azimuth, elevation, distance, target } = this.orbit;
    const direction = [Math.cos(elevation) * Math.cos(azimuth), Math.cos(elevation) * Math.sin(azimuth), Math.sin(elevation)];
    return target.map((value, axis) => value + distance * direction[axis]);
  }

  turn(right, up) {
    this.orbit.azimuth -= right;
    this.orbit.elevation = Math.max(-1.5, Math.min(1.5, this.orbit.elevation + up));
    this.draw();
  }

  zoom(factor) {
    this.orbit.distance = Math.max(0.2, Math.min(4 * this.orbit.farthest, this.orbit.distance * factor));
    this.draw();
  }

  move(right, up) {  // fractions of the picture's height
    const { azimuth, elevation, distance } = this.orbit, span = 0.83 * distance;
    const toRight = [-Math.sin(azimuth), Math.cos(azimuth), 0];
    const toTop = [-Math.sin(elevation) * Math.cos(azimuth), -Math.sin(elevation) * Math.sin(azimuth), Math.cos(elevation)];
    this.orbit.target = this.orbit.target.map((value, axis) => value - span * (right * toRight[axis] + up * toTop[axis]));
    this.draw();
  }

  listen() {
    const { canvas } = this, pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY], size = canvas.clientHeight;
      const delta = [(now[0] - before[0]) / size, (now[1] - before[1]) / size];
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const gap = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
        this.zoom(gap(before) / Math.max(1, gap(now)));
        this.move(delta[0] / 2, -delta[1] / 2);
      } else if (event.shiftKey || event.buttons === 2) {
        this.move(delta[0], -delta[1]);
      } else {
        this.turn(3 * delta[0], 3 * delta[1]);
      }
      pointers.set(event.pointerId, now);
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 400))));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const action = {
        ArrowLeft: () => this.turn(-0.12, 0), ArrowRight: () => this.turn(0.12, 0), ArrowUp: () => this.turn(0, 0.08),
        ArrowDown: () => this.turn(0, -0.08), "+": () => this.zoom(0.85), "=": () => this.zoom(0.85), "-": () => this.zoom(1.18),
        0: () => this.reset(),
      }[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    });
  }

  draw() {
    const { gl, canvas } = this;
    if (!gl || !this.orbit || !this.buffers.surface) return;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.125, 0.145, 0.172, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    const eye = this.eye();
    gl.uniformMatrix4fv(gl.getUniformLocation(this.program, "projection"), false, viewProjection(eye, this.orbit.target, canvas.width / canvas.height, this.orbit.distance));
    gl.uniform3fv(gl.getUniformLocation(this.program, "eye"), eye);
    const checked = (id) => document.getElementById(id).checked;
    const put = (mesh, mode, size, count) => {
      if (!mesh || !mesh.count) return;
      gl.uniform1f(gl.getUniformLocation(this.program, "pointSize"), size * ratio);
      gl.bindVertexArray(mesh.array);
      if (mode === gl.TRIANGLES) gl.drawElements(mode, mesh.count, gl.UNSIGNED_INT, 0);
      else gl.drawArrays(mode, 0, count ?? mesh.count);
    };
    gl[checked("show-back") ? "disable" : "enable"](gl.CULL_FACE);  // walls seen from outside do not hide the room
    if (checked("show-surface")) put(this.buffers.surface, gl.TRIANGLES, 1);
    gl.disable(gl.CULL_FACE);
    if (checked("show-points")) put(this.buffers.points, gl.POINTS, 2);
    put(this.buffers.lines, gl.LINES, 1, checked("show-cameras") ? undefined : this.numBoxVertices);
    gl.disable(gl.DEPTH_TEST);
    if (checked("show-cameras")) put(this.buffers.ends, gl.POINTS, 7);
    gl.bindVertexArray(null);
  }
}

// Column-major product of a perspective projection (45 degrees) and a look-at, z up.
function viewProjection(eye, target, aspect, distance) {
  const sub = (a, b) => a.map((value, i) => value - b[i]);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => a.map((value) => value / Math.hypot(...a));
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const back = unit(sub(eye, target)), right = unit(cross([0, 0, 1], back)), up = cross(back, right);
  const focal = 1 / Math.tan(Math.PI / 8), near = distance / 50, far = distance * 20;
  const depth = (far + near) / (near - far), shift = (2 * far * near) / (near - far);
  const rows = [
    [...right.map((v) => (v * focal) / aspect), (-dot(right, eye) * focal) / aspect],
    [...up.map((v) => v * focal), -dot(up, eye) * focal],
    [...back.map((v) => v * depth), -dot(back, eye) * depth + shift],
    [...back.map((v) => -v), dot(back, eye)],
  ];
  return new Float32Array([0, 1, 2, 3].flatMap((column) => rows.map((row) => row[column])));
}

// A surface from its packed arrays: positions in 1/65535 of the box, faces as differences, normals made here.
function unpackSurface(arrays, box) {
  const packed = arrays.surface_vertices.data, steps = arrays.surface_faces.data;
  const vertices = new Float32Array(packed.length), faces = new Uint32Array(steps.length);
  for (let i = 0; i < packed.length; i++) vertices[i] = box[i % 3] + (packed[i] / 65535) * (box[3 + (i % 3)] - box[i % 3]);
  let sum = 0;
  for (let i = 0; i < steps.length; i++) faces[i] = sum += steps[i];
  const normals = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const u = [0, 1, 2].map((k) => vertices[b + k] - vertices[a + k]), v = [0, 1, 2].map((k) => vertices[c + k] - vertices[a + k]);
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const at of [a, b, c]) for (let k = 0; k < 3; k++) normals[at + k] += n[k];
  }
  for (let i = 0; i < normals.length; i += 3) {
    const length = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    for (let k = 0; k < 3; k++) normals[i + k] /= length;
  }
  return { vertices, normals, colors: arrays.surface_color.data, faces };
}
