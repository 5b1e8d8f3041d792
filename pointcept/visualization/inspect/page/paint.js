// Colours for quantities: the map of the panels, a diverging map for signed distances, and legends.

const scaleColors = Uint8Array.from(atob(facts.color_map), (character) => character.charCodeAt(0));
const MISSING = [64, 64, 64];
const INSIDE = [33, 74, 150], SURFACE = [247, 247, 244], OUTSIDE = [186, 84, 16];

function scaleColor(fraction) {
  const index = 3 * Math.max(0, Math.min(255, Math.round(fraction * 255)));
  return [scaleColors[index], scaleColors[index + 1], scaleColors[index + 2]];
}

// Signed distance: blue inside things, orange in free space, white on the surface.
function signedColor(value, limit) {
  const end = value < 0 ? INSIDE : OUTSIDE;
  const share = Math.min(1, Math.abs(value) / limit) ** 0.8;
  return SURFACE.map((middle, channel) => middle + (end[channel] - middle) * share);
}

function cssColor(color) {
  return `rgb(${color.map((value) => Math.round(value)).join(",")})`;
}

// Fills a canvas with one colour per pixel.
function paint(canvas, width, height, colorAt) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    image.data.set(colorAt(index), 4 * index);
    image.data[4 * index + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function legend(title, colors, lower, upper, missing) {
  const stops = Array.from({ length: 17 }, (_, index) => cssColor(colors(index / 16))).join(",");
  const note = missing ? `<div><span class="swatch" style="background:${cssColor(MISSING)}"></span>${missing}</div>` : "";
  return `<div class="legend"><div>${title}</div><div class="bar" style="background:linear-gradient(90deg,${stops})"></div>` +
    `<div class="ends"><span>${lower}</span><span>${upper}</span></div>${note}</div>`;
}
