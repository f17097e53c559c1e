"""Our service beside others, on the same machine, one after the other, with the same pictures.

    pip install -e '.[train]' -r benchmarks/requirements.txt; apt-get install wrk
    python benchmarks/serve.py [--model default] [--seconds 5] [--rounds 3] [--only ours,plain…] [--out serve.csv]

Each contender is started, asked once (start-up: from its process's start to its first answer), warmed, and then asked by `wrk`, which keeps a
number of connections busy: 1, 16, 64 and 256 files a request where it takes several. wrk runs on the same processors; it needs a few per cent of
one. The ceiling is `Predictor.predict` in a plain loop, in as many threads as there are processors. Everything is measured in several rounds, in
turn, and the medians are told, as figures and as ratios. Pictures: drawn signs from 24 to 66 px as PPM, as large as the benchmark's."""
import argparse, csv, json, os, re, shutil, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np, psutil

from gtsrb.predict import Predictor, artefact_folder, usable_cpus
from gtsrb.preprocess import cv2, decode_image
from gtsrb.signs import legend_png

HERE = Path(__file__).resolve().parent
LOADS = ((1, 16), (16, 4), (64, 2), (256, 2))                                   # files a request, connections

def pictures(n):
    "Drawn signs as PPM, of the sizes that the benchmark's crops have."
    for i in range(n):
        sign = cv2.resize(decode_image(legend_png(i % 43, 96)), (24 + i % 43,) * 2, interpolation=cv2.INTER_AREA)
        yield cv2.imencode(".ppm", sign[..., ::-1])[1].tobytes()

def write_request(folder, n):
    "A multipart body of n files, and the wrk script that sends it."
    body = b"".join(b'--XX\r\nContent-Disposition: form-data; name="files"; filename="%05d.ppm"\r\nContent-Type: image/x-portable-pixmap\r\n\r\n%s\r\n' % f for f in enumerate(pictures(n))) + b"--XX--\r\n"
    (folder / f"{n}.body").write_bytes(body)
    (folder / f"{n}.lua").write_text(f'''local f = io.open("{folder}/{n}.body", "rb")
wrk.method, wrk.body = "POST", f:read("*a")
wrk.headers["Content-Type"] = "multipart/form-data; boundary=XX"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %f %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
''')
    return body

def keras_model(folder):
    "The network of 91 million multiply-accumulates that the project began with, as Keras file and ONNX; random weights take as long."
    code = f"""
import dataclasses
from gtsrb.export import to_onnx
from gtsrb.train import TrainConfig, make_model
m = make_model(TrainConfig(options=dict(stem=24, widths=(48, 96, 192), blocks=(1, 1, 1)), small_epochs=0), "float32")
m.save({str(folder / "big.keras")!r}); open({str(folder / "big.onnx")!r}, "wb").write(to_onnx(m))"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, stderr=subprocess.DEVNULL)

def contenders(folder, artefact):
    "name: (command, environment, most files a request)."
    python, uvicorn, quiet = sys.executable, [sys.executable, "-m", "uvicorn"], ["--no-access-log", "--log-level", "warning"]
    bare, extra = ["--http", "h11", "--loop", "asyncio"], ["--http", "httptools", "--loop", "uvloop"]   # what `pip install gtsrb` gives; what uvicorn takes where it finds them
    ours = dict(GTSRB_MODEL=str(artefact), GTSRB_LOG="off")
    plain = lambda runtime, model: ([*uvicorn, "plain:app", *quiet, *bare, "--port"], dict(RUNTIME=runtime, MODEL=str(model), PYTHONPATH=str(HERE / "contenders")), 256)
    shared = dict(ARTEFACT=str(artefact), PYTHONPATH=str(HERE / "contenders"))
    return {
        "ours": ([*uvicorn, "gtsrb.api:app", *quiet, *bare, "--port"], ours, 256), "ours, httptools and uvloop": ([*uvicorn, "gtsrb.api:app", *quiet, *extra, "--port"], ours, 256),
        "ours, 2 workers": ([*uvicorn, "gtsrb.api:app", *quiet, *bare, "--workers", "2", "--port"], ours | dict(GTSRB_WORKERS=str(max(1, usable_cpus() // 2))), 256),
        "ours, window of 2 ms": ([*uvicorn, "gtsrb.api:app", *quiet, *bare, "--port"], ours | dict(GTSRB_WINDOW_S="0.002"), 256),
        "plain ONNX, our network": plain("onnx", artefact / "model.onnx"), "plain ONNX float32, 91 M": plain("onnx", folder / "big.onnx"),
        "Keras model(x), 91 M": plain("call", folder / "big.keras"), "Keras predict, 91 M": plain("predict", folder / "big.keras"),
        "LitServe": ([python, str(HERE / "contenders/lit.py")], shared, 1), "LitServe, batches": ([python, str(HERE / "contenders/lit.py")], shared | dict(BATCH="16"), 1),
        "BentoML": ([python, "-m", "bentoml", "serve", "bento:Signs", "--port"], shared | dict(BENTOML_DO_NOT_TRACK="True"), 1),
        "Ray Serve": ([python, str(HERE / "contenders/ray_plain.py")], shared, 256)}

def free_port():
    import socket
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]

def ask(url, body):
    request = urllib.request.Request(url, body, {"Content-Type": "multipart/form-data; boundary=XX"})
    with urllib.request.urlopen(request, timeout=60) as r: return json.load(r)

@contextmanager
def started(command, env, one):
    "A contender, from its start to its first answer; (url, seconds, process)."
    port = free_port(); url, begin = f"http://127.0.0.1:{port}/predict", time.perf_counter()
    process = subprocess.Popen([*command, str(port)], env=os.environ | dict(TF_CPP_MIN_LOG_LEVEL="3") | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=tempfile.gettempdir())
    try:
        while True:
            if process.poll() is not None or time.perf_counter() - begin > 120: raise RuntimeError("it does not start")
            try: ask(url, one); break
            except (OSError, urllib.error.URLError): time.sleep(0.005)
        yield url, time.perf_counter() - begin, psutil.Process(process.pid)
    finally:
        with suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGINT)
        try: process.wait(8)
        except subprocess.TimeoutExpired: pass
        with suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)
        if "ray" in " ".join(command): subprocess.run(["ray", "stop", "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def wrk(folder, url, n, connections, seconds):
    "Images a second, and latency of a request in ms."
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(folder / f"{n}.lua"), url], capture_output=True, text=True, check=True).stdout
    requests, micros, p50, p95, p99, errors = map(float, re.search(r"RESULT (.*)", out)[1].split())
    if errors: raise RuntimeError(f"{errors:.0f} requests failed")
    return dict(images_s=n * requests / (micros / 1e6), p50_ms=p50 / 1e3, p95_ms=p95 / 1e3, p99_ms=p99 / 1e3)

def measure(folder, name, command, env, most, seconds, bodies):
    "Start-up, memory and every load of one contender."
    rows = []
    with started(command, env, bodies[1]) as (url, start, process):
        for n, connections in LOADS:
            if n > most: continue
            wrk(folder, url, n, connections, 1)
            rows.append(dict(contender=name, files=n, connections=connections) | wrk(folder, url, n, connections, seconds))
        family = [process, *process.children(recursive=True)]
        memory = sum(p.memory_full_info().uss for p in family if p.is_running()) / 2**20
    return [r | dict(start_s=start, memory_mib=memory) for r in rows]

def ceiling(artefact, seconds, n=64):
    "`Predictor.predict` in a plain loop, one thread a processor."
    files, predictor, done = list(pictures(n)), Predictor(artefact, threads=1), [0] * usable_cpus()
    predictor.predict(files); end = time.perf_counter() + seconds
    def loop(k):
        while time.perf_counter() < end: predictor.predict(files); done[k] += n
    threads = [threading.Thread(target=loop, args=(k,)) for k in range(len(done))]
    for t in threads: t.start()
    for t in threads: t.join()
    return dict(contender="ceiling: a plain loop", files=n, connections=0, images_s=sum(done) / seconds)

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, default in (("--model", str, "default"), ("--seconds", int, 5), ("--rounds", int, 3), ("--only", str, ""), ("--out", str, "")): a.add_argument(name, type=kind, default=default)
    a = a.parse_args()
    if not shutil.which("wrk"): sys.exit("wrk is not installed: apt-get install wrk")
    folder, artefact, rows = Path(tempfile.mkdtemp()), artefact_folder(a.model).resolve(), []
    bodies = {n: write_request(folder, n) for n, _ in LOADS}
    keras_model(folder)
    chosen = {n: c for n, c in contenders(folder, artefact).items() if not a.only or any(n.startswith(o) for o in a.only.split(","))}
    for r in range(a.rounds):
        rows.append(ceiling(artefact, a.seconds) | dict(round=r))
        for name, c in chosen.items():
            try: rows += [row | dict(round=r) for row in measure(folder, name, *c, a.seconds, bodies)]
            except (RuntimeError, subprocess.CalledProcessError) as e: print(f"{name}: {e}", file=sys.stderr)
            print(f"round {r + 1}: {name}", file=sys.stderr, flush=True)
    report(rows, a.out)

def report(rows, out):
    "Medians over the rounds, as a table, a CSV and the ratios that matter."
    keys = sorted({(r["contender"], r["files"], r["connections"]) for r in rows}, key=lambda k: (k[1], k[0]))
    figures = ("images_s", "p50_ms", "p95_ms", "p99_ms", "start_s", "memory_mib")
    table = [dict(zip(("contender", "files", "connections"), k)) | {f: statistics.median(v) for f in figures if (v := [r[f] for r in rows if (r["contender"], r["files"], r["connections"]) == k and f in r])} for k in keys]
    if out:
        with open(out, "w", newline="") as f: w = csv.DictWriter(f, ["contender", "files", "connections", *figures]); w.writeheader(); w.writerows({k: round(v, 2) if isinstance(v, float) else v for k, v in t.items()} for t in table)
    print(f"{'contender':28}{'files':>6}{'images/s':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'start s':>9}{'MiB':>7}")
    for t in table: print(f"{t['contender']:28}{t['files']:6}{t['images_s']:10.0f}" + "".join(f"{t[f]:{w}.{d}f}" if f in t else " " * w for f, w, d in (("p50_ms", 9, 1), ("p95_ms", 9, 1), ("p99_ms", 9, 1), ("start_s", 9, 2), ("memory_mib", 7, 0))))
    rate = {(t["contender"], t["files"]): t["images_s"] for t in table}; start = {t["contender"]: t.get("start_s") for t in table}
    peers = [v for (n, f), v in rate.items() if f == 1 and n.startswith(("LitServe", "BentoML", "Ray"))]
    def ratio(text, a, b): print(f"{text}: {a / b:.2f}" if a and b else f"{text}: not measured")
    ratio("64 files, 2 connections: ours / ceiling", rate.get(("ours", 64)), rate.get(("ceiling: a plain loop", 64)))
    ratio("64 files, 2 connections: ours / plain ONNX float32, 91 M", rate.get(("ours", 64)), rate.get(("plain ONNX float32, 91 M", 64)))
    ratio("1 file, 16 connections: ours / Keras predict", rate.get(("ours", 1)), rate.get(("Keras predict, 91 M", 1)))
    ratio("1 file, 16 connections: ours / best of LitServe, BentoML, Ray Serve", rate.get(("ours", 1)), max(peers, default=None))
    ratio("start-up: ours / plain ONNX", start.get("ours"), start.get("plain ONNX, our network"))

if __name__ == "__main__": main()
