"""Asking a running service: the examples of 12a_client as they stand there, and `gtsrb predict --url`."""
import csv, http.server, io, json, re, shutil, subprocess, sys, threading
from pathlib import Path

import pytest

from conftest import serving
from gtsrb.preprocess import cv2, decode_image
from gtsrb.signs import legend_png
from test_cli import gtsrb

BOOK = Path(__file__).resolve().parents[1] / "nbs/12a_client.ipynb"
EXAMPLES = {m[1]: m[2] for c in json.loads(BOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown"
            for m in re.finditer(r"^```(\w+)\n(.*?)^```", "".join(c["source"]), re.S | re.M)}
RUN = dict(sh=["bash", "-c"], python=[sys.executable, "-c"], js=["node", "--input-type=module", "-e"])

@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("client") / "log", model=tiny) as s: yield s

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("pictures")
    for i in range(140): (at / f"{53 + i:05}.ppm").write_bytes(cv2.imencode(".ppm", decode_image(legend_png(i % 43, 40)))[1].tobytes())
    return at

@pytest.mark.parametrize("language", EXAMPLES)
def test_examples_run_as_they_stand(server, folder, language):
    program = {"sh": "curl", "js": "node"}.get(language)
    if program and not shutil.which(program): pytest.skip(f"{program} is not installed")
    code = EXAMPLES[language].replace("http://127.0.0.1:8000", server.url)
    if language == "js": code = 'import { readFile } from "node:fs/promises";\nconst picture = new Blob([await readFile("00053.ppm")]);\n' + code.replace("console.log(await answer.json())", "console.log(JSON.stringify(await answer.json()))")
    done = subprocess.run([*RUN[language], code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.replace("'", '"'))
    right = server.post(("00053.ppm", (folder / "00053.ppm").read_bytes())).json()["00053.ppm"]
    assert {k: found["00053.ppm"][k] for k in right} == right
    assert language != "sh" or len(found) == 2 and len(found["00053.ppm"]["top"]) == 2

def test_there_are_three_examples(): assert set(EXAMPLES) == set(RUN)

def table(done): return {Path(r["path"]).name: (r["class"], r["error"].split(":")[0], r["confidence"]) for r in csv.DictReader(io.StringIO(done.stdout))}

@pytest.mark.parametrize("more", [("--model", "default"), ("--engine", "processes"), ("--workers", 2)], ids=lambda m: m[0])
def test_url_takes_no_option_for_computing_here(folder, more):
    done = gtsrb("predict", folder, "--url", "http://127.0.0.1:9", *more)
    assert done.returncode == 2 and "computing here" in " ".join(done.stderr.replace("│", " ").split())

def test_url_answers_as_this_machine_would(server, folder, tiny):
    (folder / "bad.png").write_bytes(b"no picture")
    here, there = (gtsrb("predict", folder, *more) for more in (("--model", tiny), ("--url", server.url)))
    assert here.returncode == there.returncode == 1 and len(table(here)) == 141
    for (name, a), b in zip(table(here).items(), table(there).values()):
        assert a[:2] == b[:2] and abs(float(a[2] or 0) - float(b[2] or 0)) < 1e-3, name

class Moody(http.server.BaseHTTPRequestHandler):
    "Busy twice, then right; over one connection."
    protocol_version, connections, asked = "HTTP/1.1", set(), 0
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])); Moody.connections.add(self.client_address); Moody.asked += 1
        busy = Moody.asked <= 2
        answer = {"error": {"code": "busy", "message": "busy"}} if busy else [dict(index=i, filename=f"{i}", top=[dict(name="x", confidence=0.5, **{"class": 3})]) for i in range(body.count(b'name="files"'))]
        data = json.dumps(answer).encode()
        self.send_response(429 if busy else 200); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *_): pass

def test_url_asks_a_busy_service_again_over_one_connection(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody) as moody:
        threading.Thread(target=moody.serve_forever, daemon=True).start()
        done = gtsrb("predict", *sorted(folder.glob("*.ppm")), "--url", f"http://127.0.0.1:{moody.server_port}")
        moody.shutdown()
    assert done.returncode == 0 and {v[0] for v in table(done).values()} == {"3"} and len(table(done)) == 140
    assert Moody.asked == 2 + 3 and len(Moody.connections) == 1               # requests of 64 files

def test_url_that_nobody_answers_is_one_line(folder):
    done = gtsrb("predict", folder / "00053.ppm", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1 and "127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr

class Stranger(Moody):
    "Another service, which answers with something else."
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"])); data = b'[{"label": "cat"}]'
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)

def test_url_of_another_service_is_one_line(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        done = gtsrb("predict", folder / "00053.ppm", "--url", f"http://127.0.0.1:{other.server_port}")
        other.shutdown()
    assert done.returncode == 1 and "not an answer of this service" in done.stderr and "Traceback" not in done.stderr
