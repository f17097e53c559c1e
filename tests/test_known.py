"""Is it one of the 43 signs at all? The same answer from Python, the command with every engine, and the service."""
import csv, io, json, shutil, subprocess, sys

import httpx, numpy as np, pytest

from conftest import NO_TLS, environment, serving
from gtsrb.predict import Predictor
from gtsrb.preprocess import cv2

@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "Twenty pictures of noise, and a letter."
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(20): cv2.imwrite(str(folder / f"{i:02}.png"), rng.integers(0, 256, (48, 48, 3), np.uint8))
    (folder / "letter.png").write_text("Dear reader")
    return folder

@pytest.fixture(scope="module")
def telling(tiny, tmp_path_factory, pictures):
    "The tiny artefact with a threshold on its card that half of the pictures reach."
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("telling") / "telling")
    logits = Predictor(tiny).model.logits(Predictor(tiny).preprocess.squares(sorted(pictures.glob("[0-9]*.png"))))
    card = json.loads((folder / "card.json").read_text()) | dict(known=dict(score="energy", threshold=float(np.median(np.log(np.exp(logits).sum(1))))))
    (folder / "card.json").write_text(json.dumps(card))
    return folder

@pytest.fixture(scope="module")
def expected(telling, pictures):
    found = Predictor(telling).predict(sorted(pictures.glob("[0-9]*.png")))
    assert sum(r.known for r in found) == 10
    return [(str(r.known).lower(), r.known_score) for r in found]

def gtsrb(*args):
    call = "import sys; from gtsrb.cli import main; sys.argv[0] = 'gtsrb'; main()"
    return subprocess.run([sys.executable, "-c", call, *map(str, args)], capture_output=True, text=True, timeout=300, env=environment())

def check(done, expected, columns=()):
    assert done.returncode == 1 and "Traceback" not in done.stderr                 # the letter failed
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["path", "class", "name", "confidence", "error", "known", "known_score", *columns]
    assert [r["known"] for r in rows] == [*(k for k, _ in expected), ""] and rows[-1]["known_score"] == ""
    np.testing.assert_allclose([float(r["known_score"]) for r in rows[:-1]], [s for _, s in expected], rtol=2e-5, atol=1e-4)

@pytest.mark.parametrize("args", [[], ["--engine", "processes", "--workers", "2"], ["--top-k", "2"]], ids=["local", "processes", "top-k"])
def test_the_command_says_it(telling, pictures, expected, args):
    check(gtsrb("predict", pictures, "--known", "--model", telling, *args), expected, ("class_2", "name_2", "confidence_2") if "--top-k" in args else ())

def test_a_running_service_says_it_when_asked(telling, tiny, pictures, expected, tmp_path):
    files = [("files", (p.name, p.read_bytes())) for p in sorted(pictures.iterdir())]
    def ask(url, **params): return httpx.post(f"{url}/predict", files=files, params=params, timeout=60, verify=NO_TLS).json()
    with serving(tmp_path / "log", model=telling) as server:
        check(gtsrb("predict", pictures, "--known", "--url", server.url), expected)
        *plain, letter = ask(server.url).values()
        assert {tuple(a) for a in plain} == {("class", "confidence")} and "error" in letter
        *said, letter = ask(server.url, known=1).values()
        assert {tuple(a) for a in said} == {("class", "confidence", "known")} and [*letter] == ["error"]
        assert [str(a["known"]).lower() for a in said] == [k for k, _ in expected]
        assert [set(a) for a in ask(server.url, known=1, known_score=1, top_k=2, format="list")[:1]] == [{"index", "filename", "class", "confidence", "known", "known_score", "name", "top"}]
        assert ask(server.url, known="perhaps")["error"]["code"] == "invalid_parameter"
        described = server.get("/openapi.json").json()
        assert "known" in described["components"]["schemas"]["Answer"]["properties"] and "known" in [p["name"] for p in described["paths"]["/predict"]["post"]["parameters"]]
    with serving(tmp_path / "other", model=tiny) as server:                        # it cannot tell: no key in an answer, an end with a reason for the command
        *said, _ = ask(server.url, known=1).values()
        assert {tuple(a) for a in said} == {("class", "confidence")}
        done = gtsrb("predict", pictures, "--known", "--url", server.url)
        assert done.returncode == 1 and "does not tell known signs" in done.stderr and "Traceback" not in done.stderr

def test_an_artefact_that_cannot_tell_ends_the_command_before_the_work(tiny, telling, pictures, tmp_path):
    for args in (["--model", tiny], ["--model", telling, "--model", tiny], ["--model", tiny, "--engine", "ray", "--out", tmp_path / "out"]):
        done = gtsrb("predict", pictures, "--known", *args)
        assert done.returncode == 1 and done.stdout == "" and "cannot tell known signs" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert gtsrb("predict", pictures, "--known", "--format", "gtsrb", "--model", telling).returncode == 2

def test_two_artefacts_say_it_together(telling, pictures, expected):
    check(gtsrb("predict", pictures, "--known", "--model", telling, "--model", telling), expected)

@pytest.mark.slow
def test_ray_says_it(telling, pictures, expected, tmp_path):
    pytest.importorskip("ray"); parquet = pytest.importorskip("pyarrow.parquet")
    done = gtsrb("predict", pictures, "--known", "--model", telling, "--engine", "ray", "--workers", "1", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr                                       # the letter failed
    rows = sorted(parquet.read_table(tmp_path / "out").to_pylist(), key=lambda r: r["path"])
    assert [str(r["known"]).lower() for r in rows] == [*(k for k, _ in expected), "none"] and rows[-1]["known_score"] is None
    np.testing.assert_allclose([r["known_score"] for r in rows[:-1]], [s for _, s in expected], rtol=1e-4, atol=1e-4)
