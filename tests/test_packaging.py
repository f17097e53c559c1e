"""The wheel: what it holds, what it says of itself, and that it works where only the serving floor is installed."""
import email, os, re, shutil, signal, socket, subprocess, sys, time, venv, zipfile
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVING = [m for m in ("core", "signs", "preprocess", "predict", "api", "cli") if (ROOT / f"gtsrb/{m}.py").exists()]
TRAINING_ONLY = ["tensorflow", "keras", "pandas", "matplotlib", "scipy", "seaborn", "optuna", "onnx", "tf2onnx", "nbdev", "fastcore"]
SCALE_ONLY = ["ray", "pyarrow", "psycopg", "psycopg-binary"]
REAL = {"00053.ppm": 9, "00083.ppm": 7, "00191.ppm": 29, "00410.ppm": 25, "00793.ppm": 3}  # test images and their classes


def run(*command, **kwargs):
    "Run a command outside the checkout's reach; its output is the failure's message."
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")} | kwargs.pop("env", {})
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def copy_of_checkout(target):
    "The package's files as git would give them, so that nothing left over in the checkout reaches the wheel."
    left_over = shutil.ignore_patterns(".*", "_proc", "_docs", "build", "dist", "*.egg-info", "__pycache__", "runs")
    environments = lambda folder, names: {n for n in names if (Path(folder) / n / "pyvenv.cfg").exists()}      # whatever they are called: gigabytes
    return Path(shutil.copytree(ROOT, target, ignore=lambda folder, names: left_over(folder, names) | environments(folder, names)))


def environment(folder):
    "A fresh virtual environment; returns its python."
    venv.create(folder, with_pip=False)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = copy_of_checkout(tmp_path_factory.mktemp("source") / "gtsrb")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    (made,) = out.glob("*.whl")
    return made


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as z: sizes = {i.filename: i.file_size for i in z.infolist()}
    package = {n for n in sizes if ".dist-info/" not in n}
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "gtsrb").rglob("*")
              if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")}
    assert package == wanted
    assert all(size <= 10e6 for size in sizes.values())
    assert sum(size for n, size in sizes.items() if n.startswith("gtsrb/assets/")) <= 10e6


def test_wheel_brings_model_and_page(wheel):
    with zipfile.ZipFile(wheel) as z: names = set(z.namelist())
    assert {"gtsrb/assets/default/model.onnx", "gtsrb/assets/default/card.json"} <= names
    assert any(n.startswith("gtsrb/static/") and n.endswith(".html") for n in names)


def test_wheel_describes_itself(wheel):
    with zipfile.ZipFile(wheel) as z:
        read = lambda name: z.read(next(n for n in z.namelist() if n.endswith(f".dist-info/{name}"))).decode()
        meta, scripts = email.message_from_string(read("METADATA")), read("entry_points.txt")
    assert re.search(r"^gtsrb\s*=\s*gtsrb\.cli:main$", scripts, re.M)
    assert re.search(r"^gtsrb\s*=\s*gtsrb\._modidx:d$", scripts, re.M)
    assert meta["Requires-Python"] == ">=3.11" and meta["License-Expression"] == "Apache-2.0"
    assert {"train", "dev", "docs"} <= set(meta.get_all("Provides-Extra"))
    needs = [(re.match(r"[\w.-]+", r)[0].lower(), "extra ==" in r) for r in meta.get_all("Requires-Dist")]
    serving = {name for name, extra in needs if not extra}
    assert {"numpy", "opencv-python", "onnxruntime", "fastapi", "uvicorn", "python-multipart"} <= serving
    assert not serving & {*TRAINING_ONLY, *SCALE_ONLY, "opencv-python-headless"}
    assert {"tensorflow", "optuna", "ray", "pyarrow", "psycopg"} <= {name for name, extra in needs if extra}


def test_installed_wheel_imports_without_the_training_floor(wheel, tmp_path):
    "The wheel in an environment of its own that borrows the libraries of this one; the training libraries are refused."
    python = environment(tmp_path / "env")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (own / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    code = f"""if 1:
        import sys
        for name in {TRAINING_ONLY}: sys.modules[name] = None
        import importlib, gtsrb
        for name in {SERVING}: print(importlib.import_module("gtsrb." + name).__file__)
    """
    files = run(python, "-c", code, cwd=tmp_path).split()
    assert len(files) == len(SERVING) and all(Path(f).is_relative_to(own) for f in files)


@pytest.mark.slow
def test_first_readme_command_serves(tmp_path):
    "README's first command, in a fresh environment from the package index: pictures in, classes out, no training library installed."
    source = copy_of_checkout(tmp_path / "gtsrb")
    python = environment(tmp_path / "env")
    run(python, "-m", "ensurepip", "--default-pip")
    command = re.search(r"^pip install \. &&.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)[0]
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"PATH": f"{python.parent}{os.pathsep}{env['PATH']}", "VIRTUAL_ENV": str(tmp_path / "env"), "UVICORN_PORT": str(port)}
    log = open(tmp_path / "log", "w+")
    server = subprocess.Popen(["bash", "-c", command], cwd=source, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        assert wait_until_ready(url, server, seconds=300), (tmp_path / "log").read_text()[-4000:]
        assert httpx.post(f"{url}/predict", files=[("files", ("a.png", b"no picture"))]).status_code == 422
        pictures = real_images() or drawn_images()
        answer = httpx.post(f"{url}/predict", files=[("files", item) for item in pictures.items()], timeout=30)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == list(pictures)
        assert all(set(a) == {"class", "confidence"} for a in answer.json().values())
        if pictures.keys() == REAL.keys():
            assert {k: a["class"] for k, a in answer.json().items()} == REAL
            assert min(a["confidence"] for a in answer.json().values()) >= 0.99
    finally:
        if server.poll() is None: os.killpg(server.pid, signal.SIGTERM)
        server.wait(30); log.close()
    installed = set(run(python, "-c", "from importlib.metadata import distributions as d; print(*(x.name.lower() for x in d()))").split())
    assert "gtsrb" in installed and not installed & {*TRAINING_ONLY, *SCALE_ONLY}
    assert "predict" in run(python.with_name("gtsrb"), "--help", cwd=tmp_path)


def wait_until_ready(url, server, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200: return True
        except httpx.TransportError: pass
        time.sleep(0.1)
    return False


def real_images():
    from gtsrb.core import home
    paths = {name: home() / "GTSRB/Final_Test/Images" / name for name in REAL}
    return {n: p.read_bytes() for n, p in paths.items()} if all(p.exists() for p in paths.values()) else {}


def drawn_images():
    "Two drawn signs as PNG, when the data set is not there."
    import cv2
    from gtsrb.signs import draw_sign
    return {f"{i}.png": cv2.imencode(".png", draw_sign(i, 96)[..., 2::-1])[1].tobytes() for i in (14, 38)}
