"""The page in a real browser: pictures come in by every way, become answers, and what goes wrong is said in words.
Needs playwright and a Chromium (Debian's package); the check of accessibility also axe.min.js of npm's axe-core, named by AXE."""
import csv, io, json, os, re, shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np, pytest

from conftest import SHIPPED, serving
from gtsrb import api
from gtsrb.core import CLASSES
from gtsrb.preprocess import ERROR_CODES, cv2
from gtsrb.signs import render_sign
from test_api import codes_in_source

pytestmark = pytest.mark.slow
SIZES = dict(desktop=dict(viewport=dict(width=1440, height=900)), phone=dict(viewport=dict(width=390, height=844), is_mobile=True, has_touch=True))

# ---- a server, pictures

@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("page") / "log", model=SHIPPED) as s: yield s

@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "Drawn signs in the formats that are read; browsers themselves cannot read the first two."
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    names = ("stop.ppm", "grey.pgm", "yield.png", "priority.jpg", "keep right.webp", "limit.bmp")
    for name, c in zip(names, (14, 17, 13, 12, 38, 2)):
        image = render_sign(c, rng, size=64)[0][..., ::-1]
        cv2.imwrite(str(folder / name), image.mean(axis=2).astype(np.uint8) if name.endswith("pgm") else image)
    return [folder / n for n in names]

@pytest.fixture(scope="module")
def many(tmp_path_factory):
    "200 small signs."
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(1)
    for i in range(200): cv2.imwrite(str(folder / f"{i:03}.png"), render_sign(i % 43, rng, size=32)[0][..., ::-1])
    return sorted(folder.iterdir())

@pytest.fixture(scope="module")
def answers(server, pictures):
    "What the API says of the pictures."
    return server.post(*((p.name, p.read_bytes()) for p in pictures), params=dict(top_k=5)).json()

@contextmanager
def visit(browser, url, expected="$^", **context):
    "A page in a context of its own. At the end nobody else was asked, and the console held no error but the `expected`."
    c, trouble = browser.new_context(**SIZES["desktop"] | dict(locale="en-GB") | context), []
    page = c.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.on("console", lambda m: trouble.append(m.text) if m.type == "error" and not re.search(expected, m.text) else None)
    page.on("request", lambda r: None if r.url.startswith((url, f"blob:{url}")) else trouble.append(r.url))
    page.goto(url)
    page.locator("#signs li").nth(42).wait_for(state="attached")   # the names have come
    yield page
    assert not trouble
    c.close()

def give(page, files, errors=0):
    "Choose files and wait for all answers."
    page.set_input_files("#files", files)
    finished(page)

def finished(page):
    page.wait_for_function("() => document.querySelector('.card') && !document.querySelector('.waiting') && document.querySelector('#stop').hidden")

def card(page, name): return page.locator(".card").filter(has=page.get_by_text(name, exact=True))
def listed(answers, unknown): return [dict(index=i, filename=n, known=n != unknown) | a for i, (n, a) in enumerate(answers.items())]
def read(locator): return locator.text_content().strip().replace("\u00ad", "").replace("\u00a0", " ")
def saved(page, button):
    with page.expect_download() as d: page.locator(button).click()
    return Path(d.value.path()).read_bytes().decode()

# ---- pictures come in

@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_named(browser, server, pictures, answers, size):
    with visit(browser, server.url, **SIZES[size]) as page:
        give(page, pictures)
        for name, a in answers.items():
            c = card(page, name)
            assert read(c.locator(".name")) == CLASSES[a["class"]].name
            assert f"{100 * a['confidence']:.2f}%" in read(c.locator(".percent"))
            assert c.locator(".sign").evaluate("i => i.decode().then(() => [i.naturalWidth, i.src])") == [128, f"{server.url}/legend/{a['class']}.png"]
            c.scroll_into_view_if_needed()
            page.wait_for_function("c => c.width > 1 && new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size > 16",
                                   arg=c.locator(".photo").element_handle())                            # drawn, PPM and PGM too
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["viewport"]["width"]  # nothing sticks out
        assert page.locator("#camera").evaluate("e => e.closest('label').checkVisibility()") == (size == "phone")
        assert page.locator("#camera").get_attribute("capture") == "environment"
        first = card(page, pictures[0].name)
        first.get_by_role("button", name="Best five").click()
        assert [read(li.locator("span").first) for li in first.locator(".top li").all()] == [t["name"] for t in answers[pictures[0].name]["top"]]

def test_thumbnails_of_the_benchmarks_own_format_show_its_pixels(browser, server, tmp_path):
    image = np.zeros((40, 30, 3), np.uint8); image[:20] = 200, 100, 50; image[20:, :, 2] = 255
    (tmp_path / "flat.ppm").write_bytes(b"P6 # made by hand\n30 40\n255\n" + image.tobytes())
    (tmp_path / "deep.ppm").write_bytes(b"P6\n30 40\n65280\n" + (image.astype(np.uint16) * 256).astype(">u2").tobytes())
    with visit(browser, server.url) as page:
        give(page, sorted(tmp_path.iterdir()))
        page.wait_for_function("() => [...document.querySelectorAll('.photo')].every(c => c.width > 1)")
        for c in page.locator(".photo").all():
            assert c.evaluate("c => [c.width, c.height, ...c.getContext('2d').getImageData(5, 5, 1, 1).data, ...c.getContext('2d').getImageData(5, 35, 1, 1).data]") \
                == [30, 40, 200, 100, 50, 255, 0, 0, 255, 255]

def test_a_dropped_folder_is_walked(browser, server, pictures, tmp_path):
    inner = tmp_path / "trip" / "day 2"; inner.mkdir(parents=True)
    for p in pictures[:2]: shutil.copy(p, inner.parent)
    shutil.copy(pictures[2], inner); (inner / "notes.txt").write_text("nothing for a sign reader")
    with visit(browser, server.url) as page:
        mouse = page.context.new_cdp_session(page)
        for kind in ("dragEnter", "dragOver", "drop"):
            mouse.send("Input.dispatchDragEvent", dict(type=kind, x=300, y=300, data=dict(items=[], files=[str(inner.parent)], dragOperationsMask=1)))
        finished(page)
        assert sorted(page.locator(".file").all_text_contents()) == ["trip/day 2/yield.png", "trip/grey.pgm", "trip/stop.ppm"]
        assert page.locator("body.over").count() == 0

def test_a_chosen_folder_is_walked(browser, server, pictures, tmp_path):
    (tmp_path / "trip").mkdir(); shutil.copy(pictures[0], tmp_path / "trip"); (tmp_path / "trip" / "notes.txt").write_text("nothing")
    (tmp_path / "empty").mkdir(); (tmp_path / "empty" / "notes.txt").write_text("nothing")
    with visit(browser, server.url) as page:
        page.set_input_files("#folder", tmp_path / "empty")
        page.get_by_text("There are no pictures in there.").wait_for()
        page.set_input_files("#folder", tmp_path / "trip")
        finished(page)
        assert page.locator(".file").all_text_contents() == ["trip/stop.ppm"] and page.locator("#notice").is_hidden()

def test_paste(browser, server, pictures):
    with visit(browser, server.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.evaluate("""async bytes => navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob([new Uint8Array(bytes)], { type: "image/png" }) })])""",
                      list(pictures[2].read_bytes()))
        page.keyboard.press("Control+V")
        finished(page)
        assert page.locator(".card.sure, .card.unsure").count() == 1

def test_keyboard(browser, server, pictures):
    with visit(browser, server.url) as page:
        def tab_to(selector):
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate("s => document.activeElement.matches(s)", selector): break
            else: raise AssertionError(f"no way to {selector} by keyboard")
            return page.evaluate("() => { const e = document.activeElement, l = e.closest('label') ?? e;"
                                 "return [l, ...l.children].some(x => parseFloat(getComputedStyle(x).outlineWidth) >= 2 && getComputedStyle(x).outlineStyle !== 'none') }")
        page.on("filechooser", lambda chooser: chooser.set_files(pictures))
        assert tab_to("#files")
        page.keyboard.press("Enter"); finished(page)
        assert tab_to("#csv") and tab_to("#only input") and tab_to("#order")
        assert tab_to(".card button"); page.keyboard.press("Enter")
        assert page.locator(".card").first.locator(".top li").count() == 5
        assert page.evaluate("document.activeElement.ariaExpanded") == "true"
        page.locator("#only input").first.focus(); page.keyboard.press("ArrowRight"); page.keyboard.press("ArrowRight")
        assert page.locator("#only input:checked").input_value() == "failed" and page.locator(".card:visible").count() == 0
        page.locator("#clear").focus(); page.keyboard.press("Enter")
        assert page.locator(".card").count() == 0 and page.evaluate("document.activeElement.id") == "files"

# ---- many pictures

def test_200_files(browser, server, many, record_property):
    with visit(browser, server.url) as page:
        page.evaluate("""() => { window.seen = []; window.spoken = [];
            new MutationObserver(() => seen.push(document.querySelector("#progress").value)).observe(document.querySelector("#progress"), { attributes: true });
            new MutationObserver(() => spoken.push(document.querySelector("#spoken").textContent)).observe(document.querySelector("#spoken"), { childList: true }); }""")
        page.evaluate("window.t0 = performance.now()")
        give(page, many)
        record_property("seconds", took := page.evaluate("(performance.now() - t0) / 1000"))
        seen = page.evaluate("seen")
        assert seen == sorted(seen) and {50, 100, 150, 200} <= set(seen)           # progress, batch by batch
        assert len(page.evaluate("spoken")) <= 2 + took / 10                       # not at every step
        assert page.locator(".card").count() == 200 and read(page.locator("#status")).startswith("200 pictures")
        listed = json.loads(saved(page, "#json"))
        assert [a["filename"] for a in listed] == [p.name for p in many] and [a["index"] for a in listed] == list(range(200))
        alone = server.post(*((p.name, p.read_bytes()) for p in many)).json()
        assert {a["filename"]: a["class"] for a in listed} == {n: a["class"] for n, a in alone.items()}
        assert page.locator(".file").all_text_contents() == [p.name for p in many]   # in the order of the upload
        def drawn(): return page.evaluate("[...document.querySelectorAll('.photo')].flatMap((c, i) => c.width > 1 ? [i] : [])")
        page.wait_for_function("() => document.querySelector('.photo').width > 1")
        assert 0 < len(drawn()) < 100                                              # only what is near the screen takes memory
        page.locator(".card").last.scroll_into_view_if_needed()
        page.wait_for_function("() => [...document.querySelectorAll('.photo')].at(-1).width > 1 && document.querySelector('.photo').width === 1")

def test_order_and_filter(browser, server, pictures, answers, tmp_path):
    (tmp_path / "empty.png").touch()
    with visit(browser, server.url) as page:
        give(page, [*pictures, tmp_path / "empty.png"])
        page.select_option("#order", "leastSure")
        by_confidence = sorted(answers, key=lambda n: answers[n]["confidence"])
        assert page.locator(".file").all_text_contents()[0] == "empty.png"
        shown = page.locator(".file").all_text_contents()[1:]
        assert [answers[n]["confidence"] for n in shown] == [answers[n]["confidence"] for n in by_confidence]
        page.select_option("#order", "byName")
        assert page.locator(".file").all_text_contents() == sorted([*answers, "empty.png"])
        page.get_by_role("radio", name="Errors 1").check(force=True)
        assert page.locator(".card:visible .file").all_text_contents() == ["empty.png"]

def test_stop_and_go_on(browser, server, many):
    with visit(browser, server.url) as page:
        asked = []
        def only_the_first(route):
            asked.append(route)
            if len(asked) == 1: route.continue_()
        page.route("**/predict*", only_the_first, times=2)
        page.set_input_files("#files", many)
        page.wait_for_function("() => document.querySelector('#progress').value === 50")
        page.locator("#stop").click()
        assert read(page.locator("#notice p")) == "Stopped." and read(page.locator("#status")).endswith("150 still waiting")
        assert page.evaluate("document.activeElement.id") == "again"
        rows = list(csv.DictReader(io.StringIO(saved(page, "#csv"))))
        assert sum(r["error"] == "not_asked" for r in rows) == 150 and sum(r["class"] != "" for r in rows) == 50
        page.get_by_role("button", name="Go on").click(); finished(page)
        assert read(page.locator("#status")).startswith("200 pictures") and "waiting" not in read(page.locator("#status"))

# ---- results go out

def test_csv_and_json(browser, server, pictures, answers, tmp_path):
    shutil.copy(pictures[2], formula := tmp_path / '=1+1, "quoted".png'); (tmp_path / "empty.png").touch()
    with visit(browser, server.url) as page:
        give(page, [*pictures, formula, tmp_path / "empty.png"])
        text = saved(page, "#csv")
        rows = list(csv.reader(io.StringIO(text)))
        assert rows[0] == ["path", "class", "name", "confidence", "error"] and text.endswith("\r\n") and len(rows) == len(pictures) + 3
        for row, (name, a) in zip(rows[1:], answers.items()): assert row == [name, str(a["class"]), a["name"], str(a["confidence"]).removesuffix(".0"), ""]
        assert rows[-2][0] == "'" + formula.name and rows[-1] == ["empty.png", "", "", "", "empty_file"]   # no spreadsheet runs it
        listed = json.loads(saved(page, "#json"))
        said = server.post(*((p.name, p.read_bytes()) for p in [*pictures, formula, tmp_path / "empty.png"]), params=dict(top_k=5, format="list", known=1)).json()
        assert [a | dict(filename="") for a in listed] == [a | dict(filename="") for a in said]            # exactly the API's answers
        assert [a["filename"] for a in listed] == [*answers, formula.name, "empty.png"]

# ---- what goes wrong

def error_files(folder):
    png = cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    files = dict(empty_file=b"", unsupported_format=b"Dear reader", truncated_image=png[:60], corrupt_image=png[:50] + bytes(20) + png[70:],
                 too_many_pixels=png[:16] + (9000).to_bytes(4) * 2 + png[24:], file_too_large=b"P6 2000 1500 255\n" + bytes(9_000_000))
    for code, data in files.items(): (folder / f"{code}.png").write_bytes(data)
    return sorted(folder.iterdir())

@pytest.mark.parametrize("language", ["en", "de"])
def test_errors_in_words(browser, server, tmp_path, pictures, language):
    files = error_files(tmp_path)
    assert {p.stem for p in files} == set(ERROR_CODES)
    with visit(browser, server.url, locale=language) as page:
        words = page.evaluate("async () => (await import('/static/words.js')).ERRORS")[language]
        give(page, [*files, pictures[0]])
        for p in files: assert read(card(page, p.name).locator(".name")) == words[p.stem]
        assert page.locator(".failed").count() == len(files) and page.locator(".sure, .unsure").count() == 1
        assert ("ohne Antwort" if language == "de" else "without an answer") in read(page.locator("#status"))

def test_only_bad_files(browser, server, tmp_path):
    with visit(browser, server.url, expected="status of 422") as page:
        give(page, error_files(tmp_path))
        assert page.locator(".failed").count() == len(ERROR_CODES)

def test_words_for_everything_in_both_languages(browser, server):
    codes = {*ERROR_CODES, *codes_in_source()}
    assert {"unauthorized", "upload_too_slow", "body_too_large", "busy", "not_ready", "answer_too_slow", "too_many_pictures"} <= codes and len(codes) > 20
    with visit(browser, server.url) as page:
        words, errors = page.evaluate("async () => { const w = await import('/static/words.js'); return [w.WORDS, w.ERRORS].map(x =>"
            "Object.fromEntries(Object.entries(x).map(([l, k]) => [l, Object.fromEntries(Object.entries(k).map(([n, v]) => [n, v === '' ? '' : String(v)]))]))) }")
        assert words["en"].keys() == words["de"].keys() and errors["en"].keys() == errors["de"].keys() >= codes
        assert all(v for w in (words, errors) for language in w.values() for v in language.values())
        used = set(re.findall(r'\bt\(\s*"(\w+)"|data-t(?:-label)?="(\w+)"', "".join((Path(api.STATIC) / f).read_text() for f in ("app.js", "cards.js", "index.html"))))
        assert {a or b for a, b in used} <= words["en"].keys()

def test_server_gone_midway(browser, tmp_path, many):
    with serving(tmp_path / "log", model=SHIPPED) as own, visit(browser, own.url, expected="net::ERR_") as page:
        asked = []
        def second_is_too_late(route):
            asked.append(route)
            if len(asked) == 2: own.process.kill(); own.process.wait(10)
            route.continue_()
        page.route("**/predict*", second_is_too_late)
        page.set_input_files("#files", many)
        page.get_by_role("button", name="Try again").wait_for()
        assert read(page.locator("#notice p")) == "The server cannot be reached." and len(asked) == 5
        assert page.locator(".sure, .unsure").count() == 50 and page.locator(".waiting").count() == 150 and page.locator(".failed").count() == 0

def test_goes_on_when_the_server_is_back(browser, server, many):
    with visit(browser, server.url, expected="ERR_FAILED") as page:
        page.route("**/predict*", lambda r: r.abort(), times=4)
        page.set_input_files("#files", many[:60])
        page.get_by_role("button", name="Try again").click()
        finished(page)
        assert page.locator(".sure, .unsure").count() == 60 and page.locator("#notice").is_hidden()

def test_busy_server_is_asked_again(browser, server, many):
    with visit(browser, server.url, expected="status of 429") as page:
        busy = dict(status=429, headers={"Retry-After": "1"}, json={"error": {"code": "busy", "message": "64 requests are waiting already"}})
        page.route("**/predict*", lambda r: r.fulfill(**busy), times=1)
        page.set_input_files("#files", many[:3])
        page.get_by_text("the server is busy, next try in 1 s").wait_for()
        finished(page)
        assert page.locator(".sure, .unsure").count() == 3

@pytest.mark.parametrize("status, code, says", [(503, "not_ready", "not ready"), (500, "internal_error", "made a mistake"), (504, "answer_too_slow", "took too long"), (502, None, "cannot be reached")])
def test_refusals_stop_and_say_why(browser, server, pictures, status, code, says):
    with visit(browser, server.url, expected=f"status of {status}") as page:
        page.clock.install()                                                       # the pauses between two attempts pass at once
        page.route("**/predict*", lambda r: r.fulfill(status=status, body=json.dumps({"error": {"code": code, "message": "…"}}) if code else "<h1>Bad Gateway</h1>"))
        page.set_input_files("#files", pictures[0])
        again = page.get_by_role("button", name="Try again")
        for _ in range(20):
            if again.is_visible(): break
            page.clock.run_for(5000)
        assert says in read(page.locator("#notice p")) and page.locator(".waiting").count() == 1

def test_smaller_requests_for_a_narrow_server_and_its_key(browser, tmp_path, many):
    "A server with a key that takes 7 files at a time; a file that vanishes while the page waits for the key."
    for p in many[:20]: shutil.copy(p, tmp_path)
    files = sorted(tmp_path.glob("*.png"))
    with serving(tmp_path / "log", model=SHIPPED, api_key="schlüssel", max_files=7) as own, visit(browser, own.url, expected="status of 4(01|13)|net::ERR_") as page:
        page.set_input_files("#files", files)
        dialog = page.get_by_role("dialog", name="This service wants a key")
        dialog.get_by_role("button", name="Cancel").click()
        page.get_by_text("Nothing goes on without the service's key.").wait_for()
        assert page.locator(".waiting").count() == 20
        page.get_by_role("button", name="Try again").click()
        dialog.get_by_label("Key").fill("guess"); page.keyboard.press("Enter")
        page.get_by_text("That was not the right key.").wait_for()
        files[3].unlink()
        dialog.get_by_label("Key").fill("schlüssel"); page.keyboard.press("Enter")
        finished(page)
        assert page.locator(".sure, .unsure").count() == 19
        assert read(card(page, files[3].name).locator(".name")) == "This file can no longer be read; perhaps it was moved or changed."
        page.reload()
        give(page, files[0])                                                       # the tab remembers the key
        assert page.locator(".sure, .unsure").count() == 1 and dialog.is_hidden()
        page.locator(".card button").nth(1).click(); page.locator(".heat .legend:visible").wait_for()

# ---- what the model saw

def test_heat_map(browser, server, pictures):
    with visit(browser, server.url) as page:
        give(page, pictures[:2])
        for name in ("stop.ppm", "grey.pgm"):
            c = card(page, name)
            c.get_by_role("button", name="Where did it look?").click()
            c.locator(".heat .legend").wait_for()
            orange, grey, width = c.locator(".heat canvas").evaluate("""c => { const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let orange = 0, grey = 0;
                for (let i = 0; i < d.length; i += 4) { if (d[i] - d[i + 2] > 60 && d[i] > d[i + 1]) orange++; if (d[i] === d[i + 2]) grey++; }
                return [orange / (d.length / 4), grey / (d.length / 4), c.width]; }""")
            assert 0.005 < orange < 0.9 and grey > 0.05 and width == 320
            said = read(c.locator(".heat .words"))
            assert said.startswith("Most important: ") and c.locator(".heat canvas").get_attribute("aria-label") == said
        c.get_by_role("button", name="Where did it look?").click()
        assert c.locator(".heat canvas").is_hidden() and c.locator(".heat canvas").evaluate("c => c.width") == 1

def test_heat_map_is_where_the_server_says(browser, server, pictures):
    heat = np.zeros((8, 8)); heat[0, 6:] = 1; heat[1, 7] = 0.6
    def brightest(c): return c.evaluate("""c => { const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data, most = [0, 0, 0];
        for (let i = 0; i < d.length; i += 4) if (d[i] - d[i + 2] > most[0]) most.splice(0, 3, d[i] - d[i + 2], i / 4 % c.width / c.width, Math.floor(i / 4 / c.width) / c.height);
        return most.slice(1); }""")
    with visit(browser, server.url, expected="status of 504", locale="de") as page:
        give(page, pictures[0])
        for grid, says in ((heat, "Am wichtigsten: oben rechts."), (heat.T, "Am wichtigsten: unten links."), (np.ones((8, 8)), "Das ganze Bild zählt etwa gleich viel."),
                           (np.zeros((8, 8)), "Kein einzelner Teil des Bildes zählt viel.")):
            page.route("**/explain", lambda r: r.fulfill(json=dict(heat=grid.tolist(), name="Stop", confidence=1) | {"class": 14}), times=1)
            page.get_by_role("button", name="Worauf geachtet?").click()
            page.locator(".heat .legend").wait_for()
            assert read(page.locator(".heat .words")) == says
            if grid is heat: x, y = brightest(page.locator(".heat canvas")); assert x > 0.7 and y < 0.3
            page.locator("#clear").click(); give(page, pictures[0])
        page.route("**/explain", lambda r: r.fulfill(status=504, json={"error": {"code": "answer_too_slow", "message": "…"}}), times=1)
        page.get_by_role("button", name="Worauf geachtet?").click()
        page.get_by_text("Die Antwort hat zu lange gedauert.").wait_for()
        page.get_by_role("button", name="Worauf geachtet?").click(); page.get_by_role("button", name="Worauf geachtet?").click()
        page.get_by_text("Am wichtigsten").wait_for()                              # asked again, it answers

@pytest.mark.parametrize("language, says, guess", [("en", "No known sign", "At best: "), ("de", "Kein bekanntes Schild", "Am ehesten: ")])
def test_unknown_sign_in_words(browser, server, pictures, answers, language, says, guess):
    def unknown(route):
        assert "known=1" in route.request.url
        route.fulfill(json=listed(answers, unknown="stop.ppm"))
    with visit(browser, server.url, locale=language) as page:
        page.route("**/predict*", unknown)
        give(page, pictures)
        c, a = card(page, "stop.ppm"), answers["stop.ppm"]
        assert read(c.locator(".name")) == says and read(c.locator(".guess")).startswith(guess + getattr(CLASSES[a["class"]], "german" if language == "de" else "name"))
        assert c.locator(".sign").is_hidden() and c.locator(".percent").is_hidden() and page.get_by_text(says, exact=True).count() == 1
        assert f"1 {says[0].lower()}{says[1:]}" in read(page.locator("#status")) == read(page.locator("#spoken"))       # screen readers hear it
        page.locator("#only input").nth(1).check(force=True)
        assert c.is_visible()                                                      # among the unsure ones
        assert saved(page, "#csv").splitlines()[0].endswith(",known") and json.loads(saved(page, "#json"))[0]["known"] is False

def test_the_model_says_what_it_does_not_know(browser, tmp_path, pictures):
    "A real server, whose artefact has a threshold on its card: a blank picture is no known sign, drawn signs are."
    own = shutil.copytree(SHIPPED, tmp_path / "own")
    entry = json.loads((own / "card.json").read_text()) | dict(known=dict(score="odds", threshold=2.5))
    (own / "card.json").write_text(json.dumps(entry))
    (tmp_path / "blank.ppm").write_bytes(b"P6 8 8 255\n" + bytes([90, 90, 90] * 64))
    with serving(tmp_path / "log", model=own) as s, visit(browser, s.url) as page:
        give(page, [tmp_path / "blank.ppm", pictures[0]])
        assert read(card(page, "blank.ppm").locator(".name")) == "No known sign" and "strange" in card(page, "blank.ppm").get_attribute("class")
        assert read(card(page, "stop.ppm").locator(".name")) == "Stop"
        assert [a["known"] for a in json.loads(saved(page, "#json"))] == [False, True]

# ---- languages, looks, everybody

def test_languages(browser, server, pictures, answers):
    with visit(browser, server.url, locale="de-AT") as page:
        assert page.title() == "Welches Schild ist das?" and page.evaluate("document.documentElement.lang") == "de"
        give(page, pictures)
        names = lambda which: [getattr(CLASSES[a["class"]], which) for a in answers.values()]
        assert [read(n) for n in page.locator(".name").all()] == names("german")
        assert "," in read(page.locator(".percent").first) and "6 Bilder" in read(page.locator("#status"))
        page.get_by_role("button", name="English").click()
        assert [read(n) for n in page.locator(".name").all()] == names("name") and "6 pictures" in read(page.locator("#status"))
        page.reload()
        assert read(page.locator("h1")) == "Which sign is this?"                   # remembered
        assert [read(n) for n in page.locator("#signs li").all()] == [c.name for c in CLASSES]
        page.get_by_role("button", name="Deutsch").click()
        assert [read(n) for n in page.locator("#signs li").all()] == [c.german for c in CLASSES]
    with visit(browser, server.url, locale="fr") as page: assert page.title() == "Which sign is this?"

def test_narrow_and_zoomed(browser, server, pictures):
    "320 px is 1280 at 400%; all the words of both panels in German."
    with visit(browser, server.url, viewport=dict(width=320, height=640), locale="de", reduced_motion="reduce") as page:
        give(page, pictures)
        for b in page.locator(".card").first.get_by_role("button").all(): b.click()
        page.locator(".heat .legend:visible").wait_for()
        page.locator("#known summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"

@pytest.mark.parametrize("size, scheme", [("desktop", "light"), ("desktop", "dark"), ("phone", "light")])
def test_axe_finds_nothing(browser, server, pictures, answers, tmp_path, size, scheme):
    if not (axe := os.environ.get("AXE")): pytest.skip("AXE does not name axe.min.js of npm's axe-core")
    def check(page):
        page.evaluate(Path(axe).read_text())
        found = page.evaluate("async () => (await axe.run({ resultTypes: ['violations'] })).violations.map(v => [v.id, v.impact, v.nodes.map(n => n.html.slice(0, 200))])")
        assert not found
    (tmp_path / "empty.png").touch()
    with visit(browser, server.url, color_scheme=scheme, **SIZES[size]) as page:
        check(page)
        page.route("**/predict*", lambda r: r.fulfill(json=[*listed(answers, "grey.pgm"), {"error": {"code": "empty_file", "message": "…"}}]))
        give(page, [*pictures, tmp_path / "empty.png"])
        for b in page.locator(".card").first.get_by_role("button").all(): b.click()
        page.locator(".heat .legend:visible").wait_for()
        page.evaluate("document.querySelector('#known').open = true; document.querySelector('#notice').hidden = false; document.querySelector('#notice p').textContent = 'Stopped.'")
        page.wait_for_timeout(500)                                                 # bars have grown
        check(page)
        page.evaluate("document.querySelector('#key-wrong').hidden = false; document.querySelector('#key').showModal()")
        check(page)
