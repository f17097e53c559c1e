"""The built site in a real browser: the demo answers as Python does, pages fit a phone, nothing asks another server, axe finds no serious fault.
Needs playwright and a Chromium; the accessibility check axe.min.js of npm's axe-core, named by AXE."""
import base64, functools, hashlib, http.server, json, os, shutil, subprocess, sys, threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np, pytest

from conftest import SHIPPED, write_tiny_artefact
from gtsrb.predict import Predictor
from gtsrb.preprocess import cv2, decode_image, square
from gtsrb.signs import legend_png, render_sign

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
PHONE, DESKTOP = dict(width=390, height=844), dict(width=1440, height=900)
PAGES = ("index.html", "preprocess.html", "demo.html")   # home, one notebook, the demo

# ---- the site, served

@pytest.fixture(scope="module")
def signs():
    "200 drawn signs of many shapes, as files that lose nothing."
    rng, out = np.random.default_rng(5), []
    for i in range(200):
        w, h = rng.integers(15, 160, 2)
        image = cv2.resize(render_sign(i % 43, rng, size=96)[0], (int(w), int(h)), interpolation=cv2.INTER_AREA)
        out.append(cv2.imencode((".png", ".ppm", ".bmp")[i % 3], image[..., ::-1])[1].tobytes())
    return out

def quantised(folder):
    "The shipped network with 8-bit weights and activations, calibrated on drawn signs."
    from onnxruntime import quantization as q
    rng, prep = np.random.default_rng(0), Predictor().preprocess
    images = prep(np.stack([square(render_sign(i % 43, rng, size=64)[0], prep.size) for i in range(86)]))
    class Reader(q.CalibrationDataReader):
        left = [dict(image=images)]
        def get_next(self): return self.left.pop() if self.left else None
    folder.mkdir()
    q.quantize_static(SHIPPED / "model.onnx", folder / "model.onnx", Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8)
    card = json.loads((SHIPPED / "card.json").read_text(encoding="utf-8"))
    card["model"]["sha256"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A copy of the site as it is built, its demo with two more models; `.ci/run` has built it just before."
    docs, copy = ROOT / "_docs", tmp_path_factory.mktemp("site") / "site"
    if not (docs / "demo.html").exists() or not os.environ.get("CI"): subprocess.run([sys.executable, ROOT / ".ci/docs"], check=True)
    shutil.copytree(docs, copy)
    assert (copy / "demo/ort-wasm-simd-threaded.wasm").exists(), "the site was built without the live demo: see .ci/docs"
    listed = json.loads((copy / "demo/models.json").read_text(encoding="utf-8"))
    assert listed[0]["name"] == "default"
    write_tiny_artefact(copy / "demo/tiny", size=40)
    quantised(copy / "demo/int8")
    listed += [dict(name=n, size=s, bytes=(copy / f"demo/{n}/model.onnx").stat().st_size, card=f"{n}/card.json", model=f"{n}/model.onnx") for n, s in (("tiny", 40), ("int8", 48))]
    (copy / "demo/models.json").write_text(json.dumps(listed), encoding="utf-8")
    return copy

class Handler(http.server.SimpleHTTPRequestHandler):
    "Files, under a policy that lets a page ask nobody else."
    def end_headers(self):
        self.send_header("Content-Security-Policy", "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src * data: blob:")
        super().end_headers()
    def log_message(self, *_): pass

@pytest.fixture(scope="module")
def url(site):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

BADGES = ("https://colab.research.google.com/assets/", "https://img.shields.io/", "https://github.com/")   # pictures of other servers: left out here

@contextmanager
def visit(browser, url, page="index.html", **context):
    "A page in a context of its own; at the end the console held no error and nobody else was asked for more than a badge."
    c, trouble, asked = browser.new_context(**dict(viewport=DESKTOP) | context), [], []
    c.route(lambda u: u.startswith(BADGES), lambda r: r.fulfill(status=200, content_type="image/svg+xml", body='<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20"/>'))
    p = c.new_page()
    p.on("pageerror", lambda e: trouble.append(str(e)))
    p.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    p.on("request", lambda r: asked.append(r.url))
    p.goto(f"{url}/{page}")
    p.asked = asked
    yield p
    assert not trouble and not [a for a in asked if not a.startswith((url, f"blob:{url}", "data:", *BADGES))]
    c.close()

# ---- the demo

ASK = """async ([name, files]) => {
    const { Model, models, pixelsOf } = await import("./demo/model.js");
    const model = await Model.open((await models()).find(m => m.name === name)), bytes = b => Uint8Array.from(atob(b), c => c.charCodeAt(0));
    const out = [];
    for (const f of files) out.push(await model.probabilities(await pixelsOf(new File([bytes(f)], "sign"))));
    return out; }"""

@pytest.mark.parametrize("name", ["default", "int8", "tiny"])
def test_demo_answers_as_python_does(browser, url, site, signs, name, record_property):
    with visit(browser, url, "demo.html") as page: there = np.array(page.evaluate(ASK, [name, [base64.b64encode(s).decode() for s in signs]]))
    here = Predictor(site / "demo" / name).probabilities(signs)
    record_property("largest_difference", float(np.abs(there - here).max()))
    assert there.shape == here.shape == (200, 43)
    assert (there.argmax(1) == here.argmax(1)).all()
    assert np.abs(there - here).max() < 1e-3

def test_demo_reads_what_browsers_decode_themselves(browser, url):
    "JPEG and WebP lose something, and a decoder may round otherwise; a picture with transparent parts lies on black."
    image = np.ascontiguousarray(render_sign(14, np.random.default_rng(0), size=90)[0][..., ::-1])
    files = [cv2.imencode(".jpg", image)[1].tobytes(), cv2.imencode(".webp", image)[1].tobytes(), legend_png(14)]
    with visit(browser, url, "demo.html") as page: there = np.array(page.evaluate(ASK, ["default", [base64.b64encode(f).decode() for f in files]]))
    assert np.abs(there - Predictor().probabilities(files)).max() < 0.02

def test_demo_page(browser, url, tmp_path):
    "The runtime comes with the first picture; an answer is a sign's name; what is no picture is said to be none."
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "sign.ppm").write_bytes(cv2.imencode(".ppm", render_sign(14, np.random.default_rng(14), size=96)[0][..., ::-1])[1].tobytes())
    for size in (PHONE, DESKTOP):
        with visit(browser, url, "demo.html", viewport=size) as page:
            page.get_by_role("button", name="stop.png").wait_for()
            page.wait_for_load_state("networkidle")
            assert not [a for a in page.asked if a.endswith((".wasm", ".onnx"))]
            page.set_input_files("#demo input", [tmp_path / "sign.ppm", tmp_path / "notes.png"])
            page.locator(".demo-error").wait_for()
            assert "Stop" in page.locator(".demo-answers li").nth(1).text_content()
            assert {a.rsplit("/", 1)[1] for a in page.asked if a.endswith((".wasm", ".onnx"))} == {"ort-wasm-simd-threaded.wasm", "model.onnx"}
            page.get_by_role("button", name="keep_right.ppm").click()
            page.locator(".demo-answers strong", has_text="Keep right").wait_for()
            page.select_option("#demo select", "int8")
            page.get_by_role("button", name="stop.png").click()
            page.locator(".demo-answers strong", has_text="Stop").nth(1).wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]

def test_demo_without_its_runtime_says_so(browser, url, site):
    hidden = site / "demo/ort.wasm.bundle.min.mjs"
    hidden.rename(hidden.with_suffix(".away"))
    try:
        c = browser.new_context(); page = c.new_page(); page.goto(f"{url}/demo.html")
        page.get_by_role("button", name="stop.png").click()
        page.get_by_text("this copy of the site was built without it").first.wait_for()
        c.close()
    finally: hidden.with_suffix(".away").rename(hidden)

# ---- the pages

def test_pages_are_light(site):
    assert {p.name: p.stat().st_size for p in site.glob("*.html") if p.stat().st_size >= 1e6} == {}

def test_search(browser, url):
    "A word of a notebook leads to the section that holds it."
    with visit(browser, url, "demo.html") as page:
        page.locator("input[type=search], .smalldocs-search input").first.fill("temperature")
        page.locator(".search-result-section", has_text="fit_temperature").wait_for()

@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible(browser, url, name, colours):
    axe = os.environ.get("AXE")
    if not axe or not Path(axe).exists(): pytest.skip("AXE does not name axe.min.js")
    with visit(browser, url, name, color_scheme=colours) as page:
        page.wait_for_load_state("networkidle")
        page.evaluate(Path(axe).read_text(encoding="utf-8"))
        found = page.evaluate("async () => (await axe.run()).violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)])")
        assert [f for f in found if f[0] in ("serious", "critical")] == []

def test_pages_fit_a_phone(browser, url, site):
    "Every page, without scrolling sideways."
    with visit(browser, url, viewport=PHONE) as page:
        wide = []
        for p in sorted(site.glob("*.html")):
            page.goto(f"{url}/{p.name}")
            if page.evaluate("document.documentElement.scrollWidth") > 390: wide.append(p.name)
        assert wide == []
