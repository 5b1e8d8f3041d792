"""The page in a real browser, as a reader without a network uses it: what is drawn, and what follows a click or a key.

The browser is Chromium: ``chromium``, ``google-chrome`` or ``POINTCEPT_BROWSER`` names it.
"""

import os
import re
import shutil

import numpy as np
import pytest

from pointcept.visualization.inspect import find_checkpoints, inspect_experiment, open_experiment
from pointcept.visualization.inspect.measure import measured_views, observe

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in the dev extra")

BROWSER = os.environ.get("POINTCEPT_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, or POINTCEPT_BROWSER names none")

FLAGS = (
    "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --use-angle=swiftshader --enable-unsafe-swiftshader"
).split()
TIMEOUT_MS = 180_000
PIXELS = """(canvas) => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""
MIDDLE = """(canvas) => Array.from(
  canvas.getContext("2d").getImageData(canvas.width / 2 - 20, canvas.height / 2 - 20, 40, 40).data)"""
SPACE = """() => {
  const canvas = document.getElementById("space-canvas"), gl = canvas.getContext("webgl2");
  const data = new Uint8Array(4 * canvas.width * canvas.height);
  gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  let seen = 0, sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] + data[i + 1] + data[i + 2] > 150) seen++;
    sum = (sum * 31 + data[i]) % 1000003;
  }
  return { seen, sum };
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_path(experiment_folder, tmp_path_factory):
    experiment = open_experiment(experiment_folder)
    checkpoints = find_checkpoints(experiment_folder)
    return inspect_experiment(experiment, checkpoints, experiment.scene_names[:2], tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(browser, page_path):
    """The opened page; whatever it complains of, or asks a network for, fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light", offline=True)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(page_path.as_uri())
    page.wait_for_selector("html[data-ready='0-2-0']")
    yield page
    context.close()
    # How software rendering is set up is the browser's affair, and reading pictures back is these tests'.
    harmless = re.compile("GPU|swiftshader|willReadFrequently", re.IGNORECASE)
    assert [text for text in problems if not harmless.search(text)] == []


@pytest.fixture(scope="module")
def states(experiment_folder):
    """What the model makes of the first scene at each checkpoint, and what was measured."""
    experiment = open_experiment(experiment_folder)
    batch = experiment.batch(experiment.scene_names[0])
    found = []
    for checkpoint in find_checkpoints(experiment_folder):
        experiment.load(checkpoint)
        found.append(observe(experiment.model, batch))
    return found, measured_views(batch.cameras)


def picture(page, cell: str) -> np.ndarray:
    canvas = page.locator(f"[data-cell='{cell}'] canvas")
    size = canvas.evaluate("(canvas) => [canvas.height, canvas.width]")
    return np.array(canvas.evaluate(PIXELS)).reshape(*size, 4)[..., :3]


def click_pixel(page, cell: str, column: int, row: int) -> None:
    box = page.locator(f"[data-cell='{cell}']")
    area = box.bounding_box()
    box.click(position={"x": (column + 0.5) / 32 * area["width"], "y": (row + 0.5) / 24 * area["height"]})


def text(page, selector: str) -> str:
    return page.locator(selector).inner_text()


def set_slider(page, selector: str, value: int) -> None:
    page.locator(selector).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def test_pictures_are_those_that_were_measured_and_rendered(page, states):
    found, measured = states
    np.testing.assert_array_equal(picture(page, "0-0"), np.round(measured[0].color * 255))
    np.testing.assert_allclose(picture(page, "0-1"), found[-1].views[0].color * 255, atol=1)
    for cell in ("3-0", "3-1", "3-2"):  # features
        assert picture(page, cell).std() > 5
    assert text(page, "[data-cell='0-1'] + figcaption").startswith("PSNR ")
    captions = page.locator("figcaption").all_inner_texts()
    for beginning in ("AbsRel ", "mean angle ", "mean cosine "):
        assert any(caption.startswith(beginning) for caption in captions)


def test_the_training_slider_shows_another_step(page, states):
    found, _ = states
    before = picture(page, "0-1")
    set_slider(page, "#step", 0)
    page.wait_for_selector("html[data-ready='0-0-0']")
    assert text(page, "#step-label") == "step 0"
    np.testing.assert_allclose(picture(page, "0-1"), found[0].views[0].color * 255, atol=1)
    assert np.abs(picture(page, "0-1") - before).max() > 20
    assert page.locator("#strip button[aria-current='true']").inner_text().startswith("step 0")
    page.locator("#strip button").nth(1).click()
    page.wait_for_selector("html[data-ready='0-1-0']")
    assert text(page, "#step-label") == "step 40"
    page.locator("#step").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("html[data-ready='0-2-0']")


def test_a_click_takes_the_ray_apart(page, states):
    rays = states[0][-1].rays[0]
    chosen = int(np.argmax(rays.valid & (rays.measured > 0) & (rays.pixel[:, 0] > 5)))
    column, row = rays.pixel[chosen].tolist()
    click_pixel(page, "1-0", column, row)
    summary = text(page, "#ray-summary")
    assert summary.startswith(f"Column {column}, row {row}: rendered at {rays.rendered[chosen]:.2f} m;")
    assert f"measured at {rays.measured[chosen]:.2f} m" in summary
    assert f"{rays.weight.shape[1]} samples, opacity {rays.weight[chosen].sum():.2f}" in summary
    assert page.locator("#ray-plot line.measured").count() == page.locator("#ray-plot line.rendered").count() == 1
    assert page.locator("#ray-plot .dot").count() == rays.weight.shape[1]
    # The marks stand where the distances say, on the axis that the dots stand on too.
    dots = page.locator("#ray-plot .dot").evaluate_all("(dots) => dots.map((dot) => Number(dot.getAttribute('cx')))")
    slope, offset = np.polyfit(rays.distance[chosen], dots, 1)
    x = float(page.locator("#ray-plot line.measured").get_attribute("x1"))
    assert x == pytest.approx(slope * rays.measured[chosen] + offset, abs=1)
    page.locator("#ray-plot svg").hover(position={"x": 150, "y": 60})
    assert text(page, "#ray-readout").startswith("Sample ")


def test_arrow_keys_choose_the_neighbouring_ray(page):
    click_pixel(page, "0-0", 16, 12)
    before = text(page, "#ray-summary")
    page.locator("[data-cell='0-0']").focus()
    page.keyboard.press("ArrowRight")
    assert text(page, "#ray-summary").startswith("Column 17, row 12:") and before.startswith("Column 16, row 12:")
    page.keyboard.press("ArrowUp")
    assert text(page, "#ray-summary").startswith("Column 17, row 11:")


def test_the_slice_follows_its_slider_and_reads_values(page, states):
    state = states[0][-1]
    level = 3
    set_slider(page, "#height", level)
    height = state.sdf_origin[2] + level * state.sdf_spacing_m
    assert text(page, "#height-label") == f"{height:.2f} m"
    canvas = page.locator("#slice-canvas")
    first = np.array(canvas.evaluate(MIDDLE))
    area = canvas.bounding_box()
    canvas.hover(position={"x": area["width"] / 2, "y": area["height"] / 3})
    readout = text(page, "#slice-readout").replace("\N{MINUS SIGN}", "-")
    found = re.match(r"x (\S+), y (\S+), z \S+ m: signed distance (?:at least |at most )?(\S+) m", readout)
    x, y, value = map(float, found.groups())
    column, row = ((np.array([x, y]) - state.sdf_origin[:2]) / state.sdf_spacing_m).tolist()
    around = state.sdf[level, int(row) : int(row) + 2, int(column) : int(column) + 2].clip(-0.5, 0.5)
    assert around.min() - 0.02 <= value <= around.max() + 0.02
    set_slider(page, "#height", state.sdf.shape[0] - 2)
    assert np.abs(np.array(canvas.evaluate(MIDDLE)) - first).max() > 30


def test_the_room_in_space_turns_and_zooms(page):
    page.locator("#space-canvas").scroll_into_view_if_needed()
    start = page.evaluate(SPACE)
    assert start["seen"] > 500
    area = page.locator("#space-canvas").bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 20)
    page.mouse.up()
    turned = page.evaluate(SPACE)
    assert turned["sum"] != start["sum"]
    page.mouse.wheel(0, -400)
    # The browser gives the page a wheel's turn whenever it comes to it.
    page.wait_for_function(f"(seen) => ({SPACE})().seen > 1.2 * seen", arg=turned["seen"])
    page.locator("#space-canvas").focus()
    page.keyboard.press("0")
    assert page.evaluate(SPACE) == start
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(SPACE)["sum"] != start["sum"]
    page.locator("#reset").click()
    page.locator("#show-surface").uncheck()
    assert page.evaluate(SPACE)["seen"] < start["seen"]
    assert "triangles" in text(page, "#space-summary")


def test_scenes_and_themes_can_be_chosen(page):
    before = picture(page, "0-0")
    page.locator("#scene").select_option("1")
    page.wait_for_selector("html[data-ready='1-2-0']")
    assert np.abs(picture(page, "0-0") - before).max() > 20
    assert page.locator("html").get_attribute("data-theme") == "light"
    page.locator("#theme").click()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(16, 19, 23)"


def test_pictures_and_controls_say_what_they_are(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, [role=img], svg")].filter((element) =>
          !(element.getAttribute("aria-label") || element.labels?.length || element.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert page.locator("h1").count() == 1 and page.locator("section[aria-labelledby]").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_page_of_one_checkpoint_says_so(browser, image_experiment_folder, tmp_path):
    experiment = open_experiment(image_experiment_folder)
    names = experiment.scene_names[:1]
    path = inspect_experiment(experiment, find_checkpoints(image_experiment_folder), names, tmp_path)
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready='0-0-0']")
    assert "one checkpoint, so nothing changes over training" in text(page, "#one-step")
    assert not page.locator("#step").is_visible() and not page.locator("#scene").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # on a phone too
    page.close()
