// What is chosen, and the panels that follow it.

const state = { scene: 0, step: 0, view: 0, pixel: null, level: 0 };
const element = (id) => document.getElementById(id);
const pictures = new Pictures((pixel, move) => pick(pixel, move));
const rayPlot = new RayPlot();
const slicePanel = new SlicePanel();
const spacePanel = new SpacePanel();
const training = new TrainingPanel((step) => choose({ step }));
const surfaces = new Map();
const grids = new Map();
let shown = {};
let playing = null;

const scene = () => facts.scenes[state.scene];
const renderedViews = () => scene().views.filter((view) => !view.is_input);

async function choose(change) {
  Object.assign(state, change);
  const changedScene = shown.scene !== state.scene, changedView = changedScene || shown.view !== state.view;
  shown = { scene: state.scene, view: state.view };
  const current = scene(), step = current.steps[state.step];
  if (changedScene) fillControls();
  element("step").value = state.step;
  element("step-label").textContent = step.label;
  element("step").setAttribute("aria-valuetext", step.label);
  const [target, rendered] = await Promise.all([arraysOf(current.target), arraysOf(step.block)]);
  if (scene() !== current || current.steps[state.step] !== step) return;  // something else was chosen meanwhile
  state.arrays = rendered;
  const view = current.views[state.view];
  if (changedView || !state.pixel) state.pixel = nearestRay([Math.floor(view.width / 2), Math.floor(view.height / 2)]).pixel;
  if (changedScene) spacePanel.showScene(current.box, target.cloud);
  if (changedView) training.showScene(current, state.view, target);
  pictures.show(view, step.figures[state.view], pictureRows(target, rendered, state.view, view.depth_range, current.unit_m), state.pixel);
  training.show(current, state.step, state.view);
  showRay();
}

function showRay() {
  const ray = nearestRay(state.pixel), current = scene(), step = current.steps[state.step];
  rayPlot.show(ray);
  if (!grids.has(step.block.id)) grids.set(step.block.id, unpackGrid(state.arrays.sdf, current.sdf));
  const grid = grids.get(step.block.id);
  element("height").max = grid.shape[0] - 1;
  element("height").value = state.level;
  const height = (grid.origin[2] + state.level * grid.spacing).toFixed(2);
  element("height-label").textContent = `${height} m`;
  element("height").setAttribute("aria-valuetext", `${height} metres`);
  slicePanel.show(grid, state.level, current.views, state.view, ray);
  if (!surfaces.has(step.block.id)) surfaces.set(step.block.id, unpackSurface(state.arrays, current.box));
  spacePanel.show(surfaces.get(step.block.id), current.views, state.view, ray);
  document.documentElement.dataset.ready = `${state.scene}-${state.step}-${state.view}`;
}

// The precomputed ray nearest to a pixel, with its samples.
function nearestRay(pixel) {
  const get = (part) => state.arrays[`view${state.view}_ray_${part}`];
  const pixels = get("pixel").data, view = scene().views[state.view], unit = scene().unit_m;
  let best = 0, least = Infinity;
  for (let i = 0; i < pixels.length / 2; i++) {
    const distance = (pixels[2 * i] - pixel[0]) ** 2 + (pixels[2 * i + 1] - pixel[1]) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  const count = get("distance").shape[1];
  const samples = (part, scale) => Array.from(get(part).data.subarray(best * count, (best + 1) * count), (value) => value * scale);
  const colors = get("color").data.subarray(3 * best * count, 3 * (best + 1) * count);
  const chosen = [pixels[2 * best], pixels[2 * best + 1]];
  return {
    index: best, pixel: chosen, valid: get("valid").data[best] === 1,
    measured: get("measured").data[best] * unit, rendered: get("rendered").data[best] * unit,
    distance: samples("distance", unit), weight: samples("weight", 1 / 65535), sdf: samples("sdf", unit),
    color: Array.from({ length: count }, (_, i) => Array.from(colors.subarray(3 * i, 3 * i + 3))),
    origin: cameraCenter(view), direction: pixelDirection(view, ...chosen),
  };
}

function pick(pixel, move) {
  let ray = nearestRay(pixel);
  if (move) {  // the next ray in that direction
    const view = scene().views[state.view];
    for (let reach = 1; reach < Math.max(view.width, view.height); reach++) {
      const next = nearestRay([pixel[0] + reach * move[0], pixel[1] + reach * move[1]]);
      if (next.index !== ray.index) { ray = next; break; }
    }
  }
  state.pixel = ray.pixel;
  pictures.mark(ray.pixel);
  showRay();
}

function fillControls() {
  const current = scene();
  state.view = 0;
  state.pixel = null;
  shown.view = 0;
  state.step = Math.min(state.step, current.steps.length - 1);
  element("view").innerHTML = renderedViews().map((view, index) => `<option value="${index}">${index}</option>`).join("");
  element("step").max = current.steps.length - 1;
  element("step-control").hidden = current.steps.length === 1;
  element("one-step").hidden = current.steps.length > 1;
  state.level = Math.round((current.sdf.start_m - current.sdf.origin[2]) / current.sdf.spacing_m);
}

function play() {
  if (playing) {
    clearInterval(playing);
    playing = null;
  } else {
    const next = () => choose({ step: (state.step + 1) % scene().steps.length });
    next();
    playing = setInterval(next, 900);
  }
  element("play").textContent = playing ? "❚❚" : "▶";
  element("play").setAttribute("aria-label", playing ? "Stop playing" : "Play the training steps");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  slicePanel.draw();
}

element("scene").innerHTML = facts.scenes.map((entry, index) => `<option value="${index}">${escapeText(entry.name)}</option>`).join("");
element("scene-control").hidden = facts.scenes.length === 1;
element("about").textContent = facts.about;
element("notes").textContent = facts.notes;
element("scene").addEventListener("change", (event) => choose({ scene: Number(event.target.value) }));
element("view").addEventListener("change", (event) => choose({ view: Number(event.target.value) }));
element("step").addEventListener("input", (event) => choose({ step: Number(event.target.value) }));
element("height").addEventListener("input", (event) => { state.level = Number(event.target.value); showRay(); });
element("play").addEventListener("click", play);
element("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
choose({ step: facts.scenes[0].steps.length - 1 }).catch((error) => {
  element("about").textContent = `The page could not be drawn: ${error.message}. It needs a browser of 2023 or newer.`;
});
