"""Uploads that nobody thought of: Hypothesis over damaged images and odd requests, Schemathesis over the API's own description."""
import json, os, random, subprocess, sys, time
from pathlib import Path

import httpx, pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from conftest import serving
from fuzz_decode import SEEDS, check, mutate
from gtsrb.preprocess import ERROR_CODES
from test_api import GOOD, wait_for

QUICK = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))   # the same examples each time

@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("fuzz") / "log", model=tiny, log="json") as s:
        s.right = s.post(("good.png", GOOD["png"])).json()["good.png"]
        with httpx.Client(base_url=s.url, timeout=30) as s.client: yield s

# ---- the decode path

@pytest.mark.parametrize("name", SEEDS)
def test_seeds(name):
    "Those that have once made trouble among them, such as png-crash-animation, which ended the process."
    check(SEEDS[name])

def test_twenty_thousand_damaged_files():
    rng, seeds, codes = random.Random(7), list(SEEDS.values()), set()
    for _ in range(20_000): codes.add(check(mutate(rng.choice(seeds), rng, seeds)))
    assert codes >= {None, "unsupported_format", "corrupt_image", "truncated_image", "too_many_pixels"}

@pytest.mark.slow
def test_millions_of_damaged_files():
    seeds, until, n = list(SEEDS.values()), time.monotonic() + 60, 0
    rng = random.Random(time.time_ns())                                     # elsewhere each time; a failure shows the bytes
    while time.monotonic() < until: data = mutate(rng.choice(seeds), rng, seeds); check(data); n += 1
    print(f"\n{n:,} files")

# ---- whole requests

damaged = st.builds(lambda data, rng: mutate(data, rng, list(SEEDS.values())), st.sampled_from(sorted(SEEDS.values())), st.randoms(use_true_random=False))
contents = st.one_of(damaged, st.sampled_from(sorted(SEEDS.values())), st.binary(max_size=300))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

def part(name, data, extra=b""):
    "As browsers write it: quotes and line ends escaped. Backslashes are doubled, which browsers do not."
    name = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").replace("\0", "%00")
    return b'--XX\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n' + extra + b"\r\n" + data.replace(b"\r\n--XX", b"") + b"\r\n"

def post(server, body, **params):
    return server.client.post("/predict", content=body, params=params, headers={"Content-Type": "multipart/form-data; boundary=XX"})

def uploads_have_one_right_answer_each(server, files, at, form, top_k):
    at = min(at, len(files))
    files = [(f"file{i}-{n}", d) for i, (n, d) in enumerate(files)]
    files.insert(at, ("good.png", GOOD["png"]))
    r = post(server, b"".join(part(*f) for f in files) + b"--XX--\r\n", format=form, **({"top_k": top_k} if top_k else {}))
    assert r.status_code == 200, r.text
    answers = r.json() if form == "list" else list(r.json().values())
    assert len(answers) == len(files)
    for i, a in enumerate(answers):
        if form == "list": assert a.pop("index") == i and a.pop("filename").startswith("good.png" if i == at else "file")
        assert set(a) in ({"error"}, {"class", "confidence", *(["name", "top"] if top_k else [])})
        if "error" in a: assert a["error"]["code"] in ERROR_CODES and a["error"]["message"]
        else: assert len(a.get("top", ())) == (top_k or 0)
    assert {k: answers[at][k] for k in server.right} == server.right

PROPERTY = given(files=st.lists(st.tuples(names, contents), max_size=8), at=st.integers(0, 8), form=st.sampled_from(["map", "list"]), top_k=st.none() | st.integers(1, 43))

@settings(QUICK, max_examples=150)
@PROPERTY
def test_each_file_gets_one_answer_and_a_good_one_the_right_one(server, files, at, form, top_k): uploads_have_one_right_answer_each(server, files, at, form, top_k)

@pytest.mark.slow
@settings(QUICK, max_examples=3000, derandomize=False)
@PROPERTY
def test_each_file_gets_one_answer_at_length(server, files, at, form, top_k): uploads_have_one_right_answer_each(server, files, at, form, top_k)

bodies = st.one_of(st.binary(max_size=500), st.lists(st.one_of(st.sampled_from([b"--XX", b"--XX--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="files"', b'; filename="a.png"', b"; filename*=utf-8''%FF",
    b"; filename*=utf-16''x", b'"', b";", b"\\", b"\0", b":", b"\r", b"\n", GOOD["png"]]), st.binary(max_size=8)), max_size=30).map(b"".join))

@settings(QUICK, max_examples=150)
@given(body=bodies, kind=st.sampled_from(["multipart/form-data; boundary=XX", "multipart/form-data; boundary=X", "multipart/form-data", "text/plain", ""]), chunked=st.booleans())
def test_no_body_is_our_mistake(server, body, kind, chunked):
    r = server.client.post("/predict", content=iter([body]) if chunked else body, headers={"Content-Type": kind})
    assert r.status_code in (200, 400, 413, 422) and r.json()

# ---- the description

def schemathesis(server, n, **headers):
    "All checks and phases; damaged pictures by fuzz_hooks.py."
    tests = Path(__file__).parent
    known = [a for k, v in headers.items() for a in ("-H", f"{k}: {v}")]
    r = subprocess.run([sys.executable, "-m", "schemathesis.cli", "--config-file", str(tests / "schemathesis.toml"), "run", f"{server.url}/openapi.json", "--checks", "all", "-n", str(n), "--no-color", *known],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}, capture_output=True, text=True, cwd=server.log.parent)
    assert r.returncode == 0 and "generated" in r.stdout, r.stdout + r.stderr

def test_api_keeps_to_its_description(server):
    schemathesis(server, 15)

@pytest.mark.slow
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "sesame"}], ids=["open", "with a key"])
def test_api_keeps_to_its_description_at_length(tiny, tmp_path, headers):
    with serving(tmp_path / "log", model=tiny, log="json", api_key="sesame" if headers else "") as s:
        schemathesis(s, 300, **headers)
        statuses = {l["status"] for l in map(json.loads, filter(lambda l: l[0] == "{", s.text().splitlines())) if l["path"] == "/predict"}
        assert statuses >= {200, 405, 422} and max(statuses) < 500 and "Traceback" not in s.text()

def test_nothing_stays_behind(server):
    lines = [json.loads(l) for l in server.text().splitlines() if l.startswith("{")]
    assert not [l for l in lines if l["status"] >= 500 and l["path"] != "/readyz"]   # which says 503 until the model has answered its first image
    assert server.process.poll() is None and lines and "Traceback" not in server.text()
    wait_for(lambda: "gtsrb_held_bytes 0.0" in server.get("/metrics").text)
