"""One input, three engines, many kinds of source: the same answers. Ray's own tests are slow and need the extra `scale`."""
import csv, io, os, signal, subprocess, sys, tarfile, time
from pathlib import Path

import numpy as np, pytest

from conftest import environment, free_port
from gtsrb.preprocess import cv2
from gtsrb.signs import legend_png, render_sign
from test_cli import gtsrb

needs_ray = pytest.mark.slow
N = 60

@pytest.fixture(scope="module")
def pictures():
    "Drawn signs in several formats, a bad file among them, by name."
    found = {}
    for i in range(N):
        image, _ = render_sign(i % 43, np.random.default_rng(i), size=40)
        ext = (".ppm", ".png", ".jpg", ".bmp")[i % 4]
        found[f"{i:03}{ext}"] = cv2.imencode(ext, image[..., ::-1])[1].tobytes()
    return found | {"bad.png": b"no picture", "empty.ppm": b""}

@pytest.fixture(scope="module")
def sources(pictures, tmp_path_factory):
    "The same pictures as a folder, as Parquet and as tar shards."
    at = tmp_path_factory.mktemp("sources"); items = list(pictures.items())
    for i, (name, data) in enumerate(items): (p := at / "folder" / f"{i % 3}" / name).parent.mkdir(parents=True, exist_ok=True); p.write_bytes(data)
    (at / "shards").mkdir()
    for k in range(2):
        with tarfile.open(at / "shards" / f"{k}.tar", "w") as shard:
            for name, data in items[k::2]: (m := tarfile.TarInfo(name)).size = len(data); shard.addfile(m, io.BytesIO(data))
    found = dict(folder=at / "folder", shards=at / "shards")
    try: import pyarrow as pa, pyarrow.parquet as pq
    except ModuleNotFoundError: return found
    (at / "rows").mkdir()
    for k in range(2): pq.write_table(pa.table(dict(path=[n for n, _ in items[k::2]], bytes=[d for _, d in items[k::2]])), at / "rows" / f"{k}.parquet", row_group_size=9)
    return found | dict(rows=at / "rows")

def answers(*args, code=1, **env):
    "What `gtsrb predict` writes for these arguments: {file name: (class, confidence, error code)}."
    done = gtsrb("predict", *args, env=env)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    found = {Path(r["path"]).name: (r["class"], float(r["confidence"] or 0), r["error"].split(":")[0]) for r in rows}
    assert len(found) == len(rows)
    return found

def same(a, b):
    "The same rows: classes and errors equal, confidences within 1e-5."
    assert a.keys() == b.keys() and len(a) == N + 2
    for k in a: assert (a[k][0], a[k][2]) == (b[k][0], b[k][2]) and abs(a[k][1] - b[k][1]) < 1e-5, (k, a[k], b[k])

@pytest.fixture(scope="module")
def expected(sources, tiny):
    found = answers(sources["folder"], "--model", tiny)
    assert {k: v[2] for k, v in found.items() if v[2]} == {"bad.png": "unsupported_format", "empty.ppm": "empty_file"}
    return found

@pytest.mark.parametrize("engine", ["local", "processes"])
@pytest.mark.parametrize("kind", ["folder", "shards", "rows"])
def test_same_answers_from_every_source(sources, expected, tiny, engine, kind):
    if kind not in sources: pytest.skip("pyarrow is not installed (extra `scale`)")
    same(expected, answers(sources[kind], "--model", tiny, "--engine", engine, "--workers", 2))

def test_processes_keep_the_order_of_their_input(sources, tiny, tmp_path):
    call = ["predict", sources["folder"], sources["shards"] / "1.tar", sources["folder"] / "0", "--model", tiny, "--top-k", 3]
    tables = [gtsrb(*call, "--engine", e).stdout for e in ("local", "processes")]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 1 + N + 2 + N // 2 + 1 + 21

def test_a_broken_source_costs_the_others_nothing(sources, tiny, tmp_path):
    (tmp_path / "cut.tar").write_bytes((sources["shards"] / "0.tar").read_bytes()[:9000])
    (tmp_path / "not.tar").write_bytes(b"no shard"); (tmp_path / "not.parquet").write_bytes(b"no table")
    done = gtsrb("predict", tmp_path / "cut.tar", tmp_path / "not.tar", tmp_path / "not.parquet", sources["folder"] / "0", "--model", tiny)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    if "needs pyarrow" in done.stderr: pytest.skip("pyarrow is not installed (extra `scale`)")
    failed = [Path(r["path"]).name for r in rows if r["error"].startswith("unreadable_file")]
    assert done.returncode == 1 and failed == ["cut.tar", "not.tar", "not.parquet"] and len(rows) > 3 + 20

def test_wrong_usage_of_ray_is_2_and_its_absence_is_told(sources, tiny, tmp_path):
    assert gtsrb("predict", sources["folder"], "--engine", "ray").returncode == 2
    assert gtsrb("predict", sources["folder"], "--engine", "ray", "--out", tmp_path / "o", "--format", "gtsrb").returncode == 2
    blocked = tmp_path / "without"; blocked.mkdir(); (blocked / "ray.py").write_text("raise ModuleNotFoundError('no ray', name='ray')")
    done = gtsrb("predict", sources["folder"], "--engine", "ray", "--out", tmp_path / "out", "--model", tiny, env={"PYTHONPATH": f"{blocked}{os.pathsep}{environment()['PYTHONPATH']}"})
    assert done.returncode == 1 and "pip install 'gtsrb[scale]'" in done.stderr and "Traceback" not in done.stderr

# ---- Ray

def ray_rows(out):
    ds = pytest.importorskip("pyarrow.dataset")
    rows = ds.dataset(out, format="parquet").to_table().to_pylist()
    assert all(p.name.startswith(("_", ".")) or p.suffix == ".parquet" for p in Path(out).iterdir())
    found = {Path(r["path"]).name: (str(r["class"] if r["class"] is not None else ""), r["confidence"] or 0, (r["error"] or "").split(":")[0]) for r in rows}
    assert len(found) == len(rows)
    return found

@needs_ray
@pytest.mark.parametrize("kind", ["folder", "shards", "rows"])
def test_ray_gives_the_same_answers(sources, expected, tiny, tmp_path, kind):
    pytest.importorskip("ray")
    call = ["predict", sources[kind], "--model", tiny, "--engine", "ray", "--workers", 1, "--out", tmp_path / "out"]
    done = gtsrb(*call)
    assert done.returncode == 1 and f"2 of {N + 2} images failed" in done.stderr, done.stderr
    same(expected, ray_rows(tmp_path / "out"))
    if kind != "folder": return
    before = sorted((tmp_path / "out").glob("*.parquet"))
    assert gtsrb(*call).returncode == 1 and sorted((tmp_path / "out").glob("*.parquet")) == before     # nothing is missing, nothing is done twice
    done = gtsrb(*call, "--top-k", 2)
    assert done.returncode == 1 and "another job (top_k differ)" in done.stderr

@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    "A local S3 server; the environment that leads to it."
    pytest.importorskip("moto"), pytest.importorskip("pyarrow")
    port = free_port(); env = dict(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true", AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    server = subprocess.Popen([sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield env
    server.kill(); server.wait()

@pytest.fixture(scope="module")
def bucket(s3, sources):
    "The same pictures in a bucket."
    import httpx
    url = s3["AWS_ENDPOINT_URL"]
    for _ in range(100):
        try: httpx.put(f"{url}/pictures").raise_for_status(); break
        except httpx.TransportError: time.sleep(0.1)
    for root in sources.values():
        for p in root.rglob("*.*"): httpx.put(f"{url}/pictures/{root.name}/{p.relative_to(root).as_posix()}", content=p.read_bytes()).raise_for_status()
    return "s3://pictures"

@needs_ray
@pytest.mark.parametrize("kind", ["folder", "shards", "rows"])
@pytest.mark.parametrize("engine", ["local", "processes"])
def test_from_s3(s3, bucket, expected, tiny, kind, engine): same(expected, answers(f"{bucket}/{kind}", "--model", tiny, "--engine", engine, "--workers", 2, **s3))

@needs_ray
def test_ray_from_s3(s3, bucket, expected, tiny, tmp_path):
    pytest.importorskip("ray")
    assert gtsrb("predict", f"{bucket}/folder", f"{bucket}/nothing", "--model", tiny, "--engine", "ray", "--workers", 1, "--out", tmp_path / "out", env=s3).returncode == 1
    same(expected, ray_rows(tmp_path / "out"))

@pytest.fixture(scope="module")
def many(pictures, tmp_path_factory):
    "Forty folders of 150 pictures each: enough work to be interrupted."
    at, good = tmp_path_factory.mktemp("many"), [d for n, d in pictures.items() if n.endswith(".ppm") and d]
    for k in range(40):
        (at / f"{k:02}").mkdir()
        for i in range(150): (at / f"{k:02}" / f"{k:02}-{i:03}.ppm").write_bytes(good[i % len(good)])
    return sorted(at.iterdir())

def start_ray_job(many, tiny, out):
    call = ["predict", *map(str, many), "--model", str(tiny), "--engine", "ray", "--workers", "2", "--out", str(out)]
    return subprocess.Popen([sys.executable, "-c", "from gtsrb.cli import main; main()", *call], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())

def wait_for_answers(out, job, n, seconds=180):
    end = time.monotonic() + seconds
    while len(list(Path(out).glob("*.parquet"))) < n:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < end, "no answers"
        time.sleep(0.1)

@needs_ray
def test_ray_survives_the_death_of_an_actor_and_of_the_driver(many, tiny, tmp_path):
    pytest.importorskip("ray"); import psutil
    out = tmp_path / "out"
    job = start_ray_job(many, tiny, out); wait_for_answers(out, job, 2)
    actors = [p for p in psutil.Process(job.pid).children(recursive=True) if "Answering" in " ".join(p.cmdline())]
    actors[0].kill(); wait_for_answers(out, job, 6)
    family = psutil.Process(job.pid).children(recursive=True)
    job.kill(); job.wait(); left = len(list(out.glob("*.parquet")))
    psutil.wait_procs(family, timeout=30)
    job = start_ray_job(many, tiny, out)
    assert job.wait(400) == 0, job.stderr.read()
    assert left < 40 and len(ray_rows(out)) == 40 * 150                    # complete, and nothing twice (`ray_rows` looks)
