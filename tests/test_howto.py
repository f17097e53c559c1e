"""The pages "How do I …": the configuration of nginx and the program for Node, tried as they stand there."""
import json, re, shutil, ssl, subprocess, time
from contextlib import contextmanager
from pathlib import Path

import httpx, numpy as np, pytest

from conftest import SHIPPED, free_port, serving
from gtsrb.predict import Predictor
from gtsrb.preprocess import cv2
from gtsrb.signs import legend_png, render_sign

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]

def block(page, language):
    "The one block of code in that language on a page."
    text = "".join("".join(c["source"]) + "\n" for c in json.loads((ROOT / f"nbs/how_{page}.ipynb").read_text(encoding="utf-8"))["cells"])
    found, = re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)
    return found

# ---- nginx

@contextmanager
def nginx(folder, ports):
    "nginx with the page's configuration, on a free port, with a certificate made for it and the services on these ports."
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not binary: pytest.skip("no nginx")
    port, key = free_port(), folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", key, "-out", folder / "cert.pem"], check=True, capture_output=True)
    site = block("nginx", "nginx")
    for old, new in {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "/etc/ssl/certs/signs.pem": folder / "cert.pem", "/etc/ssl/private/signs.key": key,
                     "127.0.0.1:8001": f"127.0.0.1:{ports[0]}", "127.0.0.1:8002": f"127.0.0.1:{ports[1]}"}.items():
        assert site.count(old) == 1, old
        site = site.replace(old, str(new))
    temporary = "".join(f"{k}_temp_path {folder}/{k};\n" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n")
    with open(folder / "log", "wb") as log: process = subprocess.Popen([binary, "-p", folder, "-c", folder / "nginx.conf"], stdout=log, stderr=log)
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    try:
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=60) as client:
            for _ in range(100):
                assert process.poll() is None, (folder / "log").read_text()
                try: client.get("/healthz"); break
                except httpx.TransportError: time.sleep(0.05)
            yield client
    finally: process.terminate(); process.wait(10)

def test_behind_nginx(tmp_path):
    "TLS, a body as large as the service takes and one that is larger, and a service that goes away without being missed."
    (tmp_path / "a").mkdir(); (tmp_path / "b").mkdir()
    sign = ("files", ("stop.png", legend_png(14)))
    with serving(tmp_path / "a/log", model=SHIPPED) as a, serving(tmp_path / "b/log", model=SHIPPED) as b, nginx(tmp_path, (a.port, b.port)) as client:
        answer = client.post("/predict", files=[sign])
        assert answer.status_code == 200 and answer.json()["stop.png"]["class"] == 14
        assert client.get("/readyz").status_code == client.get("/metrics").status_code == 200
        noise = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8)
        large = [("files", (f"{i}.bmp", cv2.imencode(".bmp", noise)[1].tobytes())) for i in range(12)]
        assert len(large[0][1][1]) * 11 < 64 * 2**20 < len(large[0][1][1]) * 12
        assert client.post("/predict", files=large[:11]).status_code == 200
        refused = client.post("/predict", files=large)
        assert refused.status_code == 413 and refused.json()["error"]["code"] == "body_too_large"
        a.process.terminate(); a.process.wait(20)
        for _ in range(20): assert client.post("/predict", files=[sign]).json()["stop.png"]["class"] == 14

# ---- Node

def test_the_program_for_node(tmp_path):
    "The same classes and confidences as Python, for drawn signs of many shapes."
    if not (node := shutil.which("node")): pytest.skip("no node")
    wanted = re.search(r'"(onnxruntime-web@[\d.]+)"', (ROOT / ".ci/demo").read_text(encoding="utf-8"))[1]
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", tmp_path, wanted], check=True, timeout=300)
    shutil.copy(ROOT / "nbs/demo/resize.js", tmp_path)
    (tmp_path / "classify.mjs").write_text(block("onnx", "js"))
    rng, pictures = np.random.default_rng(2), []
    for i in range(20):
        w, h = rng.integers(20, 120, 2)
        pictures.append(tmp_path / f"{i}.ppm")
        cv2.imwrite(str(pictures[-1]), cv2.resize(render_sign(i, rng, size=80)[0][..., ::-1], (int(w), int(h)), interpolation=cv2.INTER_AREA))
    done = subprocess.run([node, "classify.mjs", SHIPPED, *pictures], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    there, here = [json.loads(line) for line in done.stdout.splitlines()], Predictor().predict(pictures)
    assert [a["class"] for a in there] == [a.class_id for a in here]
    assert np.allclose([a["confidence"] for a in there], [a.confidence for a in here], atol=1e-3)
