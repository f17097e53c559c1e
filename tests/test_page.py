"""The page in a real browser: choose and drop pictures, read what they are. Needs playwright and a Chromium (Debian's package)."""
import shutil

import pytest

from conftest import SHIPPED, serving
from gtsrb.core import CLASSES
from gtsrb.preprocess import cv2
from gtsrb.signs import render_sign

pytestmark = pytest.mark.slow
WIDTHS = dict(desktop=(1200, 900), phone=(390, 844))

@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None: pytest.skip("no Chromium")
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield b
        b.close()

@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("page") / "log", model=SHIPPED) as s: yield s

@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "A drawn stop sign as PPM, which browsers cannot read, one as PNG, and a letter."
    import numpy as np
    folder = tmp_path_factory.mktemp("pictures")
    image, _ = render_sign(14, np.random.default_rng(0), size=64)
    for ext in ("ppm", "png"): cv2.imwrite(str(folder / f"stop.{ext}"), image[..., ::-1])
    (folder / "letter.png").write_text("Dear reader")
    return [folder / n for n in ("stop.ppm", "stop.png", "letter.png")]

@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_are_named(browser, server, pictures, width):
    w, h = WIDTHS[width]
    page, trouble = browser.new_page(viewport=dict(width=w, height=h)), []
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith((server.url, "blob:", "data:")) else trouble.append(r.url))
    page.goto(server.url)
    page.set_input_files("input[type=file] >> nth=0", pictures)
    page.get_by_text("letter.png").wait_for()
    page.wait_for_load_state("networkidle")
    shown = page.evaluate("[...document.images].filter(i => i.checkVisibility()).map(i => i.naturalWidth)")
    assert len(shown) >= 2 and all(shown)                                    # the legend signs have come
    text = page.inner_text("body")
    answer = server.post(("stop.png", pictures[1].read_bytes())).json()["stop.png"]
    assert text.count(CLASSES[answer["class"]].name) >= 2 and "stop.ppm" in text and "stop.png" in text
    assert page.evaluate("document.documentElement.scrollWidth") <= w       # nothing sticks out
    assert not trouble
    page.close()
