"""The API's own tests once more, with the app as a deployment of Ray Serve; and a new artefact under load. Needs the extra `scale`."""
import inspect, os, secrets, signal, subprocess, sys, threading, time
from contextlib import contextmanager
from pathlib import Path

import httpx, pytest

import test_api
from conftest import NO_TLS, Server, environment, free_port, write_tiny_artefact
from gtsrb.signs import legend_png

pytestmark = pytest.mark.slow

START = """
import signal, sys, threading
import gtsrb.scale as scale
ray = scale.start_ray(3)
from ray import serve
serve.start(http_options=dict(host="127.0.0.1", port=int(sys.argv[1])))
run = lambda model: serve.run(scale.serve_app(num_replicas=int(sys.argv[2]), autoscaling_config=None, user_config=dict(model=model)), name="signs")
run(sys.argv[3]); print("running", flush=True)
for line in sys.stdin: run(line.strip()); print("changed", flush=True)
serve.shutdown(); ray.shutdown()
"""

@contextmanager
def on_serve(folder, model, replicas, **settings):
    "The service on Ray Serve, in a process that takes other artefacts from its standard input."
    pytest.importorskip("ray.serve")
    port, log = free_port(), Path(folder) / "log"
    with open(log, "wb") as err:
        process = subprocess.Popen([sys.executable, "-c", START, str(port), str(replicas), str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True,
                                   env=environment(**settings), cwd=folder, start_new_session=True)
    server = Server(process, port, log)
    try:
        for line in process.stdout:
            if line == "running\n": break
        assert process.poll() is None, server.text()
        until = time.monotonic() + 60
        while server.get("/readyz").status_code != 200: assert time.monotonic() < until; time.sleep(0.1)
        yield server
        process.stdin.close(); process.wait(60)
    finally:
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL); process.wait(10)

@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    with on_serve(tmp_path_factory.mktemp("serve"), tiny, 1) as s: yield s

for name, test in vars(test_api).copy().items():
    real = any(m.name == "real" for m in getattr(test, "pytestmark", []))
    if name.startswith("test_") and not real and "server" in inspect.signature(test).parameters: globals()[name] = test

def test_another_artefact_under_load_costs_no_request(tiny, tmp_path):
    other = write_tiny_artefact(tmp_path / "other", seed=1)
    picture = test_api.GOOD["png"]
    with on_serve(tmp_path, tiny, 2) as s:
        seen, failed, stop = [], [], threading.Event()
        def ask():
            with httpx.Client(verify=NO_TLS, timeout=60) as client:
                while not stop.is_set():
                    r = client.post(f"{s.url}/predict", files={"files": ("a.png", picture)})
                    (seen if r.status_code == 200 else failed).append(r.json())
        threads = [threading.Thread(target=ask) for _ in range(16)]
        for t in threads: t.start()
        time.sleep(2); before = seen[0]["a.png"]["class"]
        s.process.stdin.write(f"{other}\n"); s.process.stdin.flush()
        for line in s.process.stdout:
            if line == "changed\n": break
        time.sleep(2); stop.set()
        for t in threads: t.join()
        after = s.post(("a.png", picture)).json()["a.png"]["class"]
    assert not failed and len(seen) > 200 and after != before and {a["a.png"]["class"] for a in seen} == {before, after}

def test_serve_yaml_runs(tmp_path):
    "`serve run` with the file as it is, but for address and port."
    pytest.importorskip("ray.serve")
    config = (Path(__file__).resolve().parents[1] / "deploy/serve.yaml").read_text(encoding="utf-8"); port = free_port()
    (tmp_path / "serve.yaml").write_text(config.replace("host: 0.0.0.0", "host: 127.0.0.1").replace("port: 8000", f"port: {port}"), encoding="utf-8")
    env = environment() | dict(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"); env.pop("RAY_ADDRESS", None)
    call = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ray.serve.scripts import cli; cli()"   # a shell has its background jobs ignore it
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-c", call, "run", str(tmp_path / "serve.yaml")], env=env, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    server, until = Server(process, port, tmp_path / "log"), time.monotonic() + 180
    try:
        while not is_ready(server): assert process.poll() is None and time.monotonic() < until, server.text(); time.sleep(0.2)
        assert {server.post(("stop.png", legend_png(14, 64))).json()["stop.png"]["class"] for _ in range(8)} == {14}
        process.send_signal(signal.SIGINT); process.wait(240)                         # replicas have 220 s to finish
    finally:
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL); process.wait(10)

def is_ready(server):
    try: return server.get("/readyz").status_code == 200
    except httpx.TransportError: return False
