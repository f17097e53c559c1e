"""What the tests share: an untrained artefact, and a real server on a free port. Tests marked `real` are skipped where the official
data set is not under GTSRB_HOME; `slow` ones run with `-m slow`."""
import hashlib, json, os, shutil, signal, socket, ssl, subprocess, sys, time
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

import httpx, pytest

from gtsrb.core import home

def pytest_collection_modifyitems(items):
    if (home() / "GTSRB/Final_Test/Images/12629.ppm").exists(): return
    skip = pytest.mark.skip(reason="the official data set is not under GTSRB_HOME")
    for item in items:
        if "real" in item.keywords: item.add_marker(skip)

SHIPPED = Path(str(files("gtsrb"))) / "assets" / "default"

def write_tiny_artefact(folder, seed=0, size=48):
    "An artefact that knows nothing: a 4 × 4 average of the picture (its side a multiple of 4), then a linear layer with random weights."
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    from gtsrb.core import CLASSES
    folder, rng = Path(folder), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    weights = dict(w=rng.normal(0, 1, (48, 43)).astype(np.float32), b=np.zeros(43, np.float32))
    graph = helper.make_graph([
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["nchw"], ["grid"], kernel_shape=[size // 4] * 2, strides=[size // 4] * 2),
        helper.make_node("Flatten", ["grid"], ["flat"]), helper.make_node("Gemm", ["flat", "w", "b"], ["logits"])], "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", size, size, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 43])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    card = dict(format=1, name="tiny", classes=[c.name for c in CLASSES], temperature=1.0,
        preprocess=dict(size=size, contrast="standardise", version=1),
        model=dict(file="model.onnx", sha256=hashlib.sha256(model).hexdigest()), training={}, metrics={})
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder

@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    "The folder of an untrained artefact."
    return write_tiny_artefact(tmp_path_factory.mktemp("artefact") / "tiny")

@pytest.fixture(scope="module")
def browser():
    "A headless Chromium; the whole session long it would keep an event loop running that other tests cannot have."
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None: pytest.skip("no Chromium")
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield b
        b.close()

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def environment(**settings):
    "This environment without GTSRB_* but with the given ones, seeing the same `gtsrb` as this test."
    env = {k: v for k, v in os.environ.items() if not k.startswith("GTSRB_")}
    path = os.pathsep.join([str(Path(str(files("gtsrb"))).parent), *filter(None, [env.get("PYTHONPATH")])])
    return env | {"PYTHONPATH": path} | {f"GTSRB_{k.upper()}": str(v) for k, v in settings.items()}

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)   # without it each request would read the system's certificates, for 20 ms

class Server:
    "A running `uvicorn gtsrb.api:app`."
    def __init__(self, process, port, log): self.process, self.port, self.log, self.url = process, port, log, f"http://127.0.0.1:{port}"

    def post(self, *files, **kw): return httpx.post(f"{self.url}/predict", files=[("files", f) for f in files], timeout=60, verify=NO_TLS, **kw)
    def get(self, path): return httpx.get(self.url + path, timeout=60, verify=NO_TLS)
    def text(self): return self.log.read_text(errors="replace")

@contextmanager
def serving(log, /, ready=True, app="gtsrb.api:app", args=(), **settings):
    "Run uvicorn, as it is without further packages, with these arguments and settings, and end it with all of its workers."
    port, folder = free_port(), Path(log).parent
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "uvicorn", app, "--port", str(port), "--http", "h11", "--loop", "asyncio", *args],
                                   env=environment(**settings) | {"TMPDIR": str(folder)}, stdout=out, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True)
    server, until = Server(process, port, Path(log)), time.monotonic() + 30
    try:
        while ready:
            assert process.poll() is None and time.monotonic() < until, server.text()
            try:
                if server.get("/readyz").status_code == 200: break
            except httpx.TransportError: pass
            time.sleep(0.02)
        yield server
    finally:
        with suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
