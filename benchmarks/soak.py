"""A soak of the web service: good and damaged uploads for ten minutes, every right answer checked, memory watched.

    python benchmarks/soak.py [--seconds 600] [--model default] [--workers 1] [--clients 2] [--out soak.json]

Exit code 1 when an answer was wrong or missing, a status was 5xx, a worker ended, or memory grew: by a line through a worker's resident memory
from the first third on, more than 10 MiB over the run, or above 250 MiB at the end. The last line printed is the result as JSON."""
import argparse, http.client, json, random, sys, tempfile, threading, time
from collections import Counter
from pathlib import Path

import numpy as np, psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from conftest import serving
from fuzz_decode import SEEDS, mutate
from gtsrb.preprocess import cv2, decode_image
from gtsrb.signs import legend_png

def good_files():
    "Every sign once, as large as in traffic, in turn in all formats."
    for i in range(43):
        picture = cv2.resize(decode_image(legend_png(i, 96)), (24 + i, 24 + i), interpolation=cv2.INTER_AREA)[..., ::-1]
        yield cv2.imencode((".ppm", ".png", ".jpg", ".bmp", ".webp")[i % 5], picture)[1].tobytes()

def body_of(files):
    "A multipart body of byte strings, named by their place."
    parts = [b'--XX-soak\r\nContent-Disposition: form-data; name="files"; filename="%d"\r\n\r\n%s\r\n' % f for f in enumerate(files)]
    return b"".join(parts) + b"--XX-soak--\r\n"

class Client(threading.Thread):
    "Sends requests of good and damaged files over one connection, and now and then one that is hostile or dear."
    def __init__(self, port, right, until, seed):
        super().__init__()
        self.port, self.right, self.until, self.rng = port, right, until, random.Random(seed)
        self.statuses, self.files, self.damaged, self.wrong, self.slowest = Counter(), 0, 0, [], 0.0

    def run(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < self.until:
            try: self.rng.choices((self.once, self.vanish, self.explain), (98, 1, 1))[0]()
            except Exception as e: self.wrong.append(f"{type(e).__name__}: {e}"); self.connection.close()

    def once(self):
        rng, seeds = self.rng, list(SEEDS.values())
        files = [(None, mutate(rng.choice(seeds), rng, seeds)) for _ in range(rng.randint(0, 16))] + [rng.choice(self.right) for _ in range(rng.randint(1, 16))]
        rng.shuffle(files)
        begin, body = time.perf_counter(), body_of([data for _, data in files])
        cut = rng.random() < 0.02                                            # before the last boundary is complete: refused
        status, answers = self.post("/predict?format=list", body[:rng.randint(0, len(body) - 3)] if cut else body)
        self.slowest = max(self.slowest, time.perf_counter() - begin)
        if status != (400 if cut else 200): self.wrong.append(f"{status}, where the body was {'cut off' if cut else 'complete'}")   # a good file is among them
        if status != 200: return
        self.files += len(files); self.damaged += sum(want is None for want, _ in files)
        if len(answers) != len(files): self.wrong.append("answers missing")
        for (want, _), got in zip(files, answers):
            if want and not (got.get("class") == want["class"] and abs(got["confidence"] - want["confidence"]) < 2e-4): self.wrong.append(f"{got} instead of {want}")

    def post(self, path, body):
        "Status and answer of one request."
        self.connection.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=XX-soak"})
        r = self.connection.getresponse(); answer = json.loads(r.read())
        self.statuses[r.status] += 1
        return r.status, answer

    def explain(self):
        "Ask for the dearest map of one good picture."
        want, file = self.rng.choice(self.right)
        status, answer = self.post("/explain?cells=16", body_of([file]))
        if status != 200 or answer["class"] != want["class"] or np.shape(answer["heat"]) != (16, 16): self.wrong.append(f"{status} for a map")

    def vanish(self):
        "Begin a request and go away."
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.putrequest("POST", "/predict"); c.putheader("Content-Type", "multipart/form-data; boundary=XX-soak"); c.putheader("Content-Length", "1000000")
        c.endheaders(self.rng.randbytes(50_000)); c.close()

def soak(seconds, model, workers, n_clients):
    "The figures of one soak."
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "log", model=model, log="off", args=("--workers", str(workers))) as server:
        files = list(good_files())
        answers = server.post(*((str(i), f) for i, f in enumerate(files)), params=dict(format="list")).json()
        right = [({k: a[k] for k in ("class", "confidence")}, f) for a, f in zip(answers, files)]
        parent = psutil.Process(server.process.pid)
        processes = [p for p in parent.children() if "spawn_main" in " ".join(p.cmdline())] or [parent]
        begin = time.monotonic()
        clients = [Client(server.port, right, begin + seconds, seed) for seed in range(n_clients)]
        for c in clients: c.start()
        times, memory = [], []
        while any(c.is_alive() for c in clients):
            times.append(time.monotonic() - begin); memory.append([p.memory_info().rss / 2**20 if p.is_running() else np.nan for p in processes]); time.sleep(0.5)
        alive = server.process.poll() is None and all(p.is_running() for p in processes)
        traceback = "Traceback" in server.text()
    times, memory = np.array(times), np.array(memory).max(axis=1)
    late = (times > seconds / 3) & np.isfinite(memory)                       # a worker that has ended has none
    statuses = sum((c.statuses for c in clients), Counter())
    return dict(seconds=seconds, requests=sum(statuses.values()), files=sum(c.files for c in clients), damaged=sum(c.damaged for c in clients), statuses=dict(statuses),
        wrong=sum(len(c.wrong) for c in clients), wrong_first=[w for c in clients for w in c.wrong][:3], slowest_s=round(max(c.slowest for c in clients), 3), alive=alive, traceback=traceback,
        memory_mib=dict(first=round(memory[0], 1), most=round(memory.max(), 1), last=round(memory[-1], 1), growth=round(np.polyfit(times[late], memory[late], 1)[0] * seconds, 1) if late.any() else np.nan))

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600); parser.add_argument("--model", default="default")
    parser.add_argument("--workers", type=int, default=1); parser.add_argument("--clients", type=int, default=2); parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    r = soak(args.seconds, args.model, args.workers, args.clients)
    m = r["memory_mib"]
    bad = [name for name, is_bad in (("wrong answers", r["wrong"]), ("no answers", not r["files"]), ("5xx", any(s >= 500 for s in r["statuses"])), ("a worker ended", not r["alive"]), ("a traceback", r["traceback"]),
                                     ("memory grew", m["growth"] > 10), ("memory", m["last"] > 250)) if is_bad]
    print(json.dumps(r | {"failed": bad}))
    if args.out: args.out.write_text(json.dumps(r | {"failed": bad}, indent=1) + "\n")
    sys.exit(bool(bad))

if __name__ == "__main__": main()
