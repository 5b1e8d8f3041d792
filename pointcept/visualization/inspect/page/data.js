// The data of the page: a JSON block of facts, and one compressed block of arrays per scene and step.

const ARRAY_TYPES = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, int32: Int32Array, float32: Float32Array,
};
const facts = JSON.parse(document.getElementById("facts").textContent);
const decoded = new Map();

// Arrays of a block, by name: { data, shape }. Decoded once.
function arraysOf(block) {
  if (!decoded.has(block.id)) decoded.set(block.id, decode(block));
  return decoded.get(block.id);
}

async function decode(block) {
  const text = document.getElementById(block.id).textContent.trim();
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const arrays = {};
  for (const entry of block.arrays) {
    const type = ARRAY_TYPES[entry.dtype];
    const count = entry.shape.reduce((product, size) => product * size, 1);
    arrays[entry.name] = { data: new type(bytes, entry.offset, count), shape: entry.shape };
  }
  return arrays;
}

// Camera centre and world directions, from row-major matrices (camera_from_world).
function cameraCenter(view) {
  const e = view.extrinsic;
  return [0, 1, 2].map((axis) => -(e[axis] * e[3] + e[4 + axis] * e[7] + e[8 + axis] * e[11]));
}

function pixelDirection(view, column, row) {
  const k = view.intrinsic, e = view.extrinsic;
  const y = (row - k[5]) / k[4], x = (column - k[2] - k[1] * y) / k[0];
  return [0, 1, 2].map((axis) => e[axis] * x + e[4 + axis] * y + e[8 + axis]);
}

function along(origin, direction, distance) {
  const length = Math.hypot(...direction);
  return origin.map((value, axis) => value + (direction[axis] / length) * distance);
}

const escapeText = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
