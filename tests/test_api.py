"""The web service over real HTTP: `uvicorn gtsrb.api:app` on a free port, as anybody would run it."""
import json, os, re, signal, socket, struct, subprocess, sys, threading, time
from pathlib import Path

import httpx, numpy as np, pytest

from conftest import SHIPPED, environment, serving
from gtsrb import api
from gtsrb.api import STATIC
from gtsrb.core import CLASSES, home
from gtsrb.preprocess import ERROR_CODES, cv2

rng = np.random.default_rng(0)
PIXELS = cv2.GaussianBlur(rng.integers(0, 256, (40, 44, 3), np.uint8), (0, 0), 2)
GOOD = {ext: cv2.imencode(f".{ext}", PIXELS[..., 1] if ext == "pgm" else PIXELS)[1].tobytes()
        for ext in ("ppm", "pgm", "png", "jpg", "bmp", "webp")}
BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 50_000, 50_000, 8, 2, 0, 0, 0, 0)
BAD = {"empty.png": (b"", "empty_file"), "letter.png": (b"Dear reader, this is no picture.", "unsupported_format"),
       "cut.jpg": (GOOD["jpg"][:len(GOOD["jpg"]) // 2], "truncated_image"), "cut.ppm": (GOOD["ppm"][:-1], "truncated_image"),
       "broken.png": (GOOD["png"][:60] + bytes(40) + GOOD["png"][100:], "corrupt_image"),
       "bomb.png": (BOMB, "too_many_pixels"), "wide.ppm": (b"P6 9000 1 255\n" + bytes(27_000), "too_many_pixels"),
       "large.bmp": (b"BM" + bytes(8 * 2**20), "file_too_large")}

@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server") / "log", model=tiny) as s: yield s

def multipart(*files, boundary="XX", end=True):
    "A raw multipart body of (name, data) pairs."
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{n}"\r\n\r\n'.encode() + d + b"\r\n" for n, d in files]
    return b"".join(parts) + (f"--{boundary}--\r\n".encode() if end else b"")

def raw(server, body, **headers):
    "POST a raw body, bytes or a generator (then it is chunked)."
    return httpx.post(f"{server.url}/predict", content=body, timeout=60, headers={"Content-Type": "multipart/form-data; boundary=XX"} | headers)

def refused(response, status, code):
    "Check a refusal of the whole request, and return its error."
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert set(response.json()) == {"error"} and response.json()["error"]["message"]
    return response.json()["error"]

# ---- what is answered

def test_two_exact_keys(server):
    r = server.post(("00053.ppm", GOOD["ppm"]), ("übung 1.png", GOOD["png"]))
    assert r.status_code == 200 and list(r.json()) == ["00053.ppm", "übung 1.png"]
    for a in r.json().values():
        assert set(a) == {"class", "confidence"} and type(a["class"]) is int and 0 <= a["class"] < 43 and 0 < a["confidence"] < 1
        assert round(a["confidence"], 4) == a["confidence"]

def test_every_format_is_answered_as_by_the_predictor(server, tiny):
    from gtsrb.predict import Predictor
    want = Predictor(tiny).predict([GOOD[e] for e in GOOD])
    got = server.post(*((f"a.{e}", GOOD[e]) for e in GOOD)).json()
    assert [a["class"] for a in got.values()] == [w.class_id for w in want]
    assert all(w.confidence - 1.1e-4 <= a["confidence"] <= w.confidence + 1e-6 for a, w in zip(got.values(), want))

def test_top_k(server):
    a = server.post(("a.png", GOOD["png"]), params=dict(top_k=5)).json()["a.png"]
    assert set(a) == {"class", "confidence", "name", "top"} and a["name"] == CLASSES[a["class"]].name
    assert [set(t) for t in a["top"]] == [{"class", "name", "confidence"}] * 5
    assert (a["top"][0]["class"], a["top"][0]["confidence"]) == (a["class"], a["confidence"])
    confidences = [t["confidence"] for t in a["top"]]
    assert confidences == sorted(confidences, reverse=True)
    assert set(server.post(("a.png", GOOD["png"]), params=dict(top_k=1)).json()["a.png"]) == {"class", "confidence", "name", "top"}
    for k in (0, 44, "x"): refused(server.post(("a.png", GOOD["png"]), params=dict(top_k=k)), 422, "invalid_parameter")

def test_list_keeps_order_and_takes_duplicates(server):
    r = server.post(("a.png", GOOD["png"]), ("a.png", b""), ("a.png", GOOD["png"]), params=dict(format="list"))
    assert r.status_code == 200 and [(a["index"], a["filename"]) for a in r.json()] == [(i, "a.png") for i in range(3)]
    assert [sorted(set(a) - {"index", "filename"}) for a in r.json()] == [["class", "confidence"], ["error"], ["class", "confidence"]]
    refused(server.post(("a.png", GOOD["png"]), params=dict(format="xml")), 422, "invalid_parameter")

# ---- what is wrong with a file stands in its place

def test_bad_files_cost_the_good_ones_nothing(server):
    files = [("first.png", GOOD["png"]), *((n, d) for n, (d, _) in BAD.items()), ("last.png", GOOD["png"])]
    r = server.post(*files)
    assert r.status_code == 200 and list(r.json()) == [n for n, _ in files]
    for name, (_, code) in BAD.items():
        assert set(r.json()[name]) == {"error"} and r.json()[name]["error"]["code"] == code, (name, r.json()[name])
        assert set(r.json()[name]["error"]) == {"code", "message"}
    assert r.json()["first.png"] == r.json()["last.png"] == server.post(("only.png", GOOD["png"])).json()["only.png"]

@pytest.mark.parametrize("name", BAD)
def test_only_bad_files_is_422_with_the_same_body(server, name):
    r = server.post((name, BAD[name][0]))
    assert (r.status_code, r.json()[name]["error"]["code"]) == (422, BAD[name][1])

def test_all_bad_as_a_list(server):
    r = server.post(("a", b""), ("a", b"x"), params=dict(format="list"))
    assert r.status_code == 422 and [a["error"]["code"] for a in r.json()] == ["empty_file", "unsupported_format"]

@pytest.mark.parametrize("ext", ["ppm", "pgm", "png", "jpg", "bmp", "webp"])
def test_cut_off_in_every_format(server, ext):
    name = f"cut.{ext}"
    assert server.post((name, GOOD[ext][:len(GOOD[ext]) * 2 // 3])).json()[name]["error"]["code"] == "truncated_image"

# ---- what is wrong with the request refuses all of it

def test_no_file_at_all(server):
    for r in (httpx.post(f"{server.url}/predict"), httpx.post(f"{server.url}/predict", data=dict(a="b")),
              httpx.post(f"{server.url}/predict", json={}), raw(server, multipart()), raw(server, multipart(("", b""))),
              httpx.post(f"{server.url}/predict", files=dict(other=("", b"")), data=dict(a="b"))):
        assert r.status_code == 422 and r.json()["error"]["code"] in ("no_files", "unknown_field"), r.text

def test_names(server):
    error = refused(server.post(("b.png", GOOD["png"]), ("a.png", GOOD["png"]), ("b.png", b"")), 422, "duplicate_names")
    assert error["names"] == ["b.png"] and "b.png" in error["message"] and "a.png" not in error["message"]
    refused(raw(server, multipart(("", GOOD["png"]))), 422, "unnamed_file")
    refused(raw(server, b'--XX\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--XX--\r\n'), 422, "unnamed_file")
    assert "picture" in refused(httpx.post(f"{server.url}/predict", files=dict(picture=("a.png", GOOD["png"]))), 422, "unknown_field")["message"]

def test_a_thousand_files_and_one_more(server):
    r = server.post(*((f"{i}.ppm", GOOD["ppm"]) for i in range(1000)))
    assert r.status_code == 200 and list(r.json()) == [f"{i}.ppm" for i in range(1000)]
    refused(server.post(*((f"{i}.ppm", GOOD["ppm"]) for i in range(1001))), 413, "too_many_files")

def test_body_too_large(server):
    big = multipart(*((f"{i}.bmp", bytes(7 * 2**20)) for i in range(10)))
    refused(raw(server, big), 413, "body_too_large")
    sent = 0
    def chunks():
        nonlocal sent
        for i in range(0, len(big), 2**20): sent += 2**20; yield big[i:i+2**20]
    refused(raw(server, chunks()), 413, "body_too_large")                # no Content-Length: counted as it comes

def test_chunked_body_is_as_good(server):
    body = multipart(("a.png", GOOD["png"]), ("b.png", b""))
    r = raw(server, (body[i:i+7] for i in range(0, len(body), 7)))
    assert r.status_code == 200 and r.json() == server.post(("a.png", GOOD["png"]), ("b.png", b"")).json()

def test_malformed_bodies(server):
    good = multipart(("a.png", GOOD["png"]))
    for body in (b"", b"nonsense", good[:-4], good[:-20], good[:30], multipart(("a" * 20_000, b"x"))):
        refused(raw(server, body), 400, "malformed_body")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300):
        refused(raw(server, good, **{"Content-Type": kind}), 400, "malformed_body")

def test_mutated_bodies_are_answered_or_refused(server):
    "Seeded damage to a good body: never a 500."
    rng, good = np.random.default_rng(0), multipart(*((e, d) for e, d in GOOD.items()))
    splices = [b"", b"\r\n", b"--XX", b"\r\n--XX--", b'name="files"', b"filename*=utf-8''x", b"\0\0", b"\xff\xd8", b'"', bytes(range(128, 160))]
    seen = set()
    with httpx.Client() as client:
        for _ in range(200):
            body = bytearray(good)
            for at in rng.integers(0, len(body), rng.integers(1, 5)): body[at:at + rng.integers(0, 40)] = splices[rng.integers(len(splices))]
            r = client.post(f"{server.url}/predict", content=bytes(body), headers={"Content-Type": "multipart/form-data; boundary=XX"})
            seen.add(r.status_code); assert r.json()
    assert 200 in seen and seen <= {200, 400, 422}

def test_hostile_names_are_only_names(server):
    names = ["../../etc/passwd", "<script>alert(1)</script>.png", "a" * 3000, "x\u202egnp.exe", "__proto__", "error"]
    r = server.post(*((n, GOOD["png"]) for n in names))
    assert r.status_code == 200 and list(r.json()) == names
    assert r.headers["content-type"] == "application/json" and r.headers["x-content-type-options"] == "nosniff"

def test_requests_at_once_are_not_mixed_up(server):
    gray = [cv2.imencode(".png", np.full((9, 9, 3), (k * 20, 255 - k * 20, 128), np.uint8))[1].tobytes() for k in range(12)]
    alone = [server.post((f"{k}.png", d)).json()[f"{k}.png"] for k, d in enumerate(gray)]
    got = [None] * 12
    def one(k): got[k] = server.post((f"{k}.png", gray[k])).json()[f"{k}.png"]
    threads = [threading.Thread(target=one, args=(k,)) for k in range(12)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert got == alone

# ---- the other routes

def test_health_model_classes_legend(server):
    assert server.get("/healthz").json() == {"status": "alive"} and server.get("/readyz").json() == {"status": "ready"}
    assert server.get("/model").json()["format"] == 1
    classes = server.get("/classes").json()
    assert [c["class"] for c in classes] == list(range(43)) and classes[14]["name"] == "Stop"
    assert classes[12] == {"class": 12, "name": "Priority road", "german": "Vorfahrtstraße", "shape": "diamond", "category": "unique"}
    for i in (0, 42):
        r = server.get(f"/legend/{i}.png")
        picture = cv2.imdecode(np.frombuffer(r.content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert r.headers["content-type"] == "image/png" and picture.shape == (128, 128, 4)
    refused(server.get("/legend/43.png"), 404, "not_found"); refused(server.get("/legend/-1.png"), 404, "not_found")
    refused(server.get("/nowhere"), 404, "not_found"); refused(server.get("/predict"), 405, "method_not_allowed")

def test_page_asks_nobody_else(server):
    ours = [f"/static/{p.name}" for p in STATIC.iterdir()]
    pages = {p: server.get(p) for p in ("/", "/docs", *ours, "/static/swagger/swagger-ui-bundle.js", "/static/swagger/swagger-ui.css", "/openapi.json")}
    assert {r.status_code for r in pages.values()} == {200} and "/static/app.js" in ours
    assert not re.search(r"https?://", "".join(pages[p].text for p in ours))
    for p in ("/", "/docs"):
        assert not re.search(r"(?:src|href)=\"?(?:https?:)?//|<script>|<style| style=| on\w+=", pages[p].text)
    policy = pages["/"].headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "script-src 'self';" in pages["/docs"].headers["content-security-policy"]
    assert server.get("/static/../api.py").status_code == 404 and server.get("/static/%2e%2e/api.py").status_code == 404

def test_openapi_says_what_is_answered(server):
    post = server.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert set(post["responses"]) >= {"200", "400", "408", "413", "422", "429", "503", "504"}
    assert post["requestBody"]["content"]["multipart/form-data"]["schema"]["required"] == ["files"]
    assert post["responses"]["429"]["headers"]["Retry-After"]["description"] == "seconds"

def codes_in_source():
    "Every code that the service may send in place of an answer, but those of single files."
    source = Path(api.__file__).read_text()
    return {*re.findall(r'(?:Refusal\(\d+, |problem\(|40\d: )"(\w+)"', source), "http_error"}

def test_every_code_has_an_example():
    told = set()
    def look(x):
        if isinstance(x, dict) and isinstance(x.get("code"), str) and "message" in x: told.add(x["code"])
        for v in x.values() if isinstance(x, dict) else x if isinstance(x, list) else (): look(v)
    look(api.create_app(settings=api.Settings(api_key="x")).openapi())
    assert codes_in_source() | {*ERROR_CODES} == told | {"method_not_allowed", "http_error"}     # these two are of no route

def test_sigterm_takes_no_lock():
    "The signal may come while the main thread counts: its handler must not wait for a lock that this thread holds."
    code = """
import asyncio, signal
from gtsrb.api import Service, Settings, draining
async def main():
    s, told = Service(Settings(drain_s=0.01)), []
    signal.signal(signal.SIGTERM, lambda *a: told.append(a))
    with draining(s):
        with s.metrics.ready._value._lock: signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        print(s.state, len(told))
asyncio.run(main())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["draining", "1"], done.stderr

def test_metrics_count(server):
    def count(line): return float(dict(l.rsplit(" ", 1) for l in server.get("/metrics").text.splitlines() if l[0] != "#").get(line, 0))
    lines = ('gtsrb_images_total{outcome="ok"}', 'gtsrb_images_total{outcome="empty_file"}', 'gtsrb_requests_total{path="/predict",status="200"}')
    before = [count(l) for l in lines]
    server.post(("a.png", GOOD["png"]), ("b.png", GOOD["png"]), ("c.png", b""))
    assert [count(l) - b for l, b in zip(lines, before)] == [2, 1, 1]
    for path in ("/x", "/y"): server.get(path)
    assert count("gtsrb_ready") == 1 and count("gtsrb_in_flight") == 0 and count("gtsrb_held_bytes") == 0
    assert '"/x"' not in server.get("/metrics").text

def test_nothing_stays_behind_and_no_traceback(server):
    "Runs after the hostile ones: the server lives, holds nothing, and its log has no traceback."
    assert server.process.poll() is None and "Traceback" not in server.text()
    assert "gtsrb_held_bytes 0.0" in server.get("/metrics").text

# ---- limits in time and number

@pytest.fixture(scope="module")
def narrow(tiny, tmp_path_factory):
    "A server that takes two requests at a time and has little patience."
    with serving(tmp_path_factory.mktemp("narrow") / "log", model=tiny, max_requests=2, read_seconds=2, answer_seconds=1, workers=1,
                 max_held_bytes=3_000_000, drain_s=1.5) as s: yield s

def half_a_request(server):
    "A connection that has sent its headers and a little of its body."
    s = socket.create_connection(("127.0.0.1", server.port), 30)
    s.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=XX\r\nContent-Length: 1000\r\n\r\n--XX\r\n")
    return s

def wait_for(condition):
    until = time.monotonic() + 10
    while not condition(): assert time.monotonic() < until; time.sleep(0.02)

def test_full_queue_is_429_and_slow_upload_408(narrow):
    slow = [half_a_request(narrow) for _ in range(2)]
    wait_for(lambda: "gtsrb_in_flight 2.0" in narrow.get("/metrics").text)
    r = narrow.post(("a.png", GOOD["png"]))
    refused(r, 429, "busy"); assert int(r.headers["retry-after"]) >= 1
    assert narrow.get("/healthz").status_code == 200
    for s in slow: assert s.recv(4096).startswith(b"HTTP/1.1 408"); s.close()
    assert narrow.post(("a.png", GOOD["png"])).status_code == 200          # and there is room again

def test_memory_in_hand_is_bounded(narrow):
    refused(narrow.post(("a.bmp", bytes(2_000_000)), ("b.bmp", bytes(2_000_000))), 429, "busy")
    assert "gtsrb_held_bytes 0.0" in narrow.get("/metrics").text

def test_client_that_goes_away(narrow):
    for _ in range(3): half_a_request(narrow).close()
    wait_for(lambda: "gtsrb_in_flight 0.0" in narrow.get("/metrics").text)
    assert narrow.post(("a.png", GOOD["png"])).status_code == 200 and "Traceback" not in narrow.text()

def test_slow_answer_is_504_and_the_loop_stays_free(narrow):
    heavy = cv2.imencode(".png", np.zeros((3990, 3990, 3), np.uint8))[1].tobytes()     # 50 kB, 16 megapixels
    got = []
    t = threading.Thread(target=lambda: got.append(narrow.post(*((f"{i}.png", heavy) for i in range(30))))); t.start()
    wait_for(lambda: "gtsrb_in_flight 1.0" in narrow.get("/metrics").text)
    begin = time.perf_counter(); assert narrow.get("/healthz").status_code == 200
    assert time.perf_counter() - begin < 0.5
    t.join(); refused(got[0], 504, "answer_too_slow")
    wait_for(lambda: narrow.post(("a.png", GOOD["png"])).status_code == 200)            # the thread has given up too

def test_drain(narrow):
    "Last in this group: SIGTERM, 503 from /readyz while requests are still answered, then an orderly end."
    slow, begin = half_a_request(narrow), time.monotonic()
    narrow.process.send_signal(signal.SIGTERM)
    wait_for(lambda: narrow.get("/readyz").status_code == 503)
    assert narrow.get("/readyz").json() == {"status": "draining"} and narrow.get("/healthz").status_code == 200
    assert narrow.post(("a.png", GOOD["png"])).status_code == 200
    assert slow.recv(4096).startswith(b"HTTP/1.1 408")
    assert narrow.process.wait(10) in (0, -signal.SIGTERM) and time.monotonic() - begin >= 1.4
    assert "Application shutdown complete" in narrow.text() and "Traceback" not in narrow.text()

# ---- start

def run(*args, **kw): return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, **kw)

def test_nothing_of_the_training_floor_is_imported():
    code = "import gtsrb.api, sys; print([m for m in ('tensorflow', 'keras', 'pandas', 'matplotlib', 'onnx', 'ray', 'torch', 'scipy') if m in sys.modules])"
    r = run("-c", code, env=environment())
    assert r.stdout.strip() == "[]", r.stdout + r.stderr

def test_missing_libgl_is_one_line(tmp_path):
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")')
    env = environment(); env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    r = run("-m", "uvicorn", "gtsrb.api:app", "--port", "0", env=env)
    lines = (r.stdout + r.stderr).strip().splitlines()
    assert r.returncode == 1 and len(lines) == 1, r.stdout + r.stderr
    assert "apt-get install libgl1 libglib2.0-0" in lines[0] and "opencv-python-headless" in lines[0]

def test_wrong_setting_is_one_line():
    r = run("-m", "uvicorn", "gtsrb.api:app", "--port", "0", env=environment(max_files="many"))
    assert r.returncode == 1 and (r.stdout + r.stderr).strip() == "GTSRB_MAX_FILES must be a number, not 'many'"

@pytest.mark.parametrize("spoil, says", [(lambda d: (d / "model.onnx").write_bytes(b"x"), "SHA-256"), (lambda d: (d / "card.json").unlink(), "card.json"),
    (lambda d: (d / "card.json").write_text("{"), "card.json")])
def test_wrong_artefact_stops_the_start(tiny, tmp_path, spoil, says):
    import shutil
    folder = shutil.copytree(tiny, tmp_path / "artefact"); spoil(folder)
    r = run("-m", "uvicorn", "gtsrb.api:app", "--port", "0", env=environment(model=folder))
    text = r.stdout + r.stderr
    assert r.returncode != 0 and f"artefact {folder}: " in text and says in text and "Traceback" not in text, text

@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no artefact is shipped")
def test_shipped_artefact_answers_soon(tmp_path):
    begin = time.monotonic()
    with serving(tmp_path / "log") as s:
        assert s.post(("14.png", s.get("/legend/14.png").content)).json()["14.png"].keys() == {"class", "confidence"}
        assert time.monotonic() - begin < 10                     # 3 s on a free machine; tests may share theirs

@pytest.mark.real
@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no artefact is shipped")
def test_five_test_images(tmp_path):
    want = {"00053.ppm": 9, "00083.ppm": 7, "00191.ppm": 29, "00410.ppm": 25, "00793.ppm": 3}
    with serving(tmp_path / "log") as s:
        got = s.post(*((n, (home() / "GTSRB/Final_Test/Images" / n).read_bytes()) for n in want)).json()
    assert {n: a["class"] for n, a in got.items()} == want and min(a["confidence"] for a in got.values()) >= 0.99
