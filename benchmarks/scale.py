"""The engines of `gtsrb predict` beside each other, and their memory.

    pip install '.[scale]' psutil
    python benchmarks/scale.py rates [--root DATA] [--images 50000] [--rounds 3] [--model default]
    python benchmarks/scale.py memory [--root DATA] [--images 200000] [--model default]
    python benchmarks/scale.py stages [--root DATA] [--images 5000] [--model default]
    python benchmarks/scale.py service [--model default]

`rates` predicts the benchmark's own test images, repeated until there are enough (drawn signs where the data set is not there): one process with
one thread, `--engine processes` with two workers, `--engine ray` with two actors, in turn. Start-up is what the same command takes for two images,
and is left out of the rates. Who used the processors is asked of every process once a second. Medians are told, as figures and as ratios.
`memory` follows resident memory of `local` and `processes`; a line through all but the first third says how it grows. `stages` takes one thread's
work apart: reading, decoding, model, and making the answer. `service` asks the web service, set up as in deploy/kubernetes.yaml, for usual things
and for the worst that its limits allow, and tells its memory."""
import argparse, json, os, statistics, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path

import numpy as np, psutil

from gtsrb.core import home

ENGINES = {   # name: what a process of its own runs, with folders, model and a place for answers
    "one thread": "from gtsrb import predict, scale; scale.Predictor = lambda m: predict.Predictor(m, threads=1); n = sum(1 for _ in scale.in_process(folders, model))",
    "processes":  "from gtsrb import scale; n = sum(1 for _ in scale.in_processes(folders, model, workers=2))",
    "ray":        "from gtsrb import scale; n = scale.with_ray(folders, out, model, workers=2)['images']",
}
RUN = "import sys\nif __name__ == '__main__':\n    model, out, *folders = sys.argv[1:]; {}; print(n)"

def sources(folder, root, n):
    "Folders of images, at least n in all: links to one folder, so that the data is there once and every image has a name of its own."
    images = Path(root or home()) / "GTSRB/Final_Test/Images"
    if not images.is_dir():
        from gtsrb.signs import synthetic_dataset
        images = synthetic_dataset(folder / "drawn", 2000) / "GTSRB/Final_Test/Images"
    size = sum(e.name.endswith(".ppm") for e in os.scandir(images))
    for k in range(-(-n // size)): (folder / f"{k:03}").symlink_to(images)
    return sorted(folder.glob("[0-9]*")), images

def kind(process):
    "What a process of ours is for, in a word or two."
    line = " ".join(process.cmdline())
    known = {"Answering": "actors", "ray::": "reading and writing", "raylet": "raylet", "gcs_server": "gcs", "agent": "agents", "log_monitor": "log monitor", "monitor.py": "monitor", "spawn_main": "workers", "resource_tracker": "tracker"}
    return next((v for k, v in known.items() if k in line), "driver" if "engine.py" in line else "other")

def watch(process):
    "Wait for a process; processor seconds of it and of all that it started, by kind, and the greatest resident memory of all of them."
    seconds, peak, family, top = {}, 0, Counter(), psutil.Process(process.pid)
    while process.poll() is None:
        rss = 0
        for p in [top, *top.children(recursive=True)]:
            try: seconds[p.pid, p.create_time()] = k if (k := kind(p)) != "other" else seconds.get((p.pid, p.create_time()), [k])[0], sum(p.cpu_times()[:2]); rss += p.memory_info().rss
            except psutil.Error: pass
        peak = max(peak, rss)
        try: process.wait(1)
        except subprocess.TimeoutExpired: pass
    for k, s in seconds.values(): family[k] += s
    return family, peak

def measure(name, folders, model, scratch):
    "Images, seconds, processor seconds by kind, peak memory of one engine in a process of its own."
    script = scratch / "engine.py"; script.write_text(RUN.format(ENGINES[name]))
    out = tempfile.mkdtemp(dir=scratch); os.rmdir(out)
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, script, model, out, *map(str, folders)], stdout=subprocess.PIPE, text=True)
    family, peak = watch(process)
    return int(process.stdout.read()), time.perf_counter() - begin, family, peak

def rates(a, scratch):
    folders, images = sources(scratch, a.root, a.images)
    few = scratch / "few"; few.mkdir()
    for p in sorted(images.glob("*.ppm"))[:2]: (few / p.name).symlink_to(p)
    found = {}
    for _ in range(a.rounds):
        for name in a.only.split(","):
            _, start, idle, _ = measure(name, [few], a.model, scratch)
            n, took, busy, peak = measure(name, folders, a.model, scratch)
            spent = {k: round(1e6 * (s - idle.get(k, 0)) / n) for k, s in busy.items() if 1e6 * (s - idle.get(k, 0)) / n >= 1}
            found.setdefault(name, []).append((n - 2) / (took - start))
            print(f"{name:12}{n:8,} images{took:8.1f} s, start-up {start:5.1f} s{found[name][-1]:8,.0f} images/s, {peak / 2**20:5,.0f} MiB; processor µs an image: {spent}", flush=True)
    median = {k: statistics.median(v) for k, v in found.items()}
    print(json.dumps(dict(images_a_second={k: round(v) for k, v in median.items()}, ratios={f"{b} ÷ {c}": round(median[b] / median[c], 3)
        for b, c in (("processes", "one thread"), ("ray", "processes")) if b in median and c in median})))

def memory(a, scratch):
    folders, _ = sources(scratch, a.root, a.images)
    for engine in a.only.split(","):
        table = scratch / f"{engine}.csv"
        command = ["predict", *map(str, folders), "--engine", engine, "--workers", "2", "--model", a.model, "--out", str(table)]
        process, seen = psutil.Popen([sys.executable, "-c", "from gtsrb.cli import main; main()", *command]), []
        while process.poll() is None:
            time.sleep(1)
            try: seen.append((table.stat().st_size, sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])))
            except (psutil.Error, OSError): pass
        n = sum(1 for _ in open(table)) - 1
        at, rss = np.array([s for s in seen if s[0]], float).T
        at *= n / at[-1]; rest = (at > n / 3) & (at < n)                       # bytes of the table stand for images
        slope = np.polyfit(at[rest] / 1e5, rss[rest] / 2**20, 1)[0]
        print(json.dumps(dict(engine=engine, images=n, failed=process.returncode, mebibytes={f"{q:.0%}": round(float(np.interp(q * n, at, rss)) / 2**20, 1) for q in (0.05, 0.1, 0.33, 0.5, 0.75, 0.95)},
                              slope_mib_per_100000=round(float(slope), 2))), flush=True)

def stages(a, scratch):
    from gtsrb.predict import Predictor, best
    folders, images = sources(scratch, a.root, 1)
    p, paths = Predictor(a.model, threads=1), sorted(images.glob("*.ppm"))[:a.images]
    timed = lambda f, items: (time.perf_counter(), [f(i) for i in items], time.perf_counter())
    some = lambda items, n=64: [items[i:i + n] for i in range(0, len(items), n)]
    found = Counter()
    for _ in range(a.rounds):
        for name, f, items in (("read", Path.read_bytes, lambda: paths), ("decode", lambda d: p.preprocess.squares([d], p.limits)[0], lambda: data),
                               ("model", lambda s: p(np.stack(s)), lambda: some(squares)), ("answer", lambda r: best(r, p.card["classes"]), lambda: np.concatenate(rows))):
            begin, out, end = timed(f, items()); found[name] += (end - begin) / len(paths) / a.rounds * 1e6
            if name == "read": data = out
            if name == "decode": squares = out
            if name == "model": rows = out
    print(json.dumps(dict(images=len(paths), bytes_an_image=round(sum(map(len, data)) / len(data)), microseconds_an_image={k: round(v, 1) for k, v in found.items()})))

def service(a, scratch):
    import httpx, yaml
    from concurrent.futures import ThreadPoolExecutor
    from gtsrb.preprocess import cv2
    from gtsrb.signs import legend_png
    here = Path(__file__).resolve().parents[1]; sys.path.insert(0, str(here / "tests"))
    from conftest import serving
    pod, = (d["spec"]["template"]["spec"]["containers"][0] for d in yaml.safe_load_all((here / "deploy/kubernetes.yaml").read_text()) if d["kind"] == "Deployment")
    settings = {e["name"].removeprefix("GTSRB_").lower(): e["value"] for e in pod["env"]} | dict(model=a.model)
    noise = np.random.default_rng(0).normal(128, 60, (4000, 4000, 3)).clip(0, 255).astype(np.uint8)
    large = next(d for q in range(60, 0, -5) if len(d := cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, q])[1].tobytes()) <= 8 * 2**20)
    loads = {"64 drawn signs, 4 at a time": ([(f"{i}.png", legend_png(i % 43, 48)) for i in range(64)], 4, 200), "7 pictures of 16 megapixels, 16 at a time": ([(f"{i}.jpg", large) for i in range(7)], 16, 64)}
    with serving(scratch / "log", **settings) as s:
        process, found = psutil.Process(s.process.pid), {}
        memory = lambda: sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20
        time.sleep(2); found["ready"] = round(memory())
        for name, (files, clients, n) in loads.items():
            with ThreadPoolExecutor(clients) as threads:
                peak, asked = 0, [threads.submit(s.post, *files) for _ in range(n)]
                while not all(f.done() for f in asked): peak = max(peak, memory()); time.sleep(0.02)
            found[name] = dict(mebibytes=round(peak), statuses=Counter(f.result().status_code for f in asked))
        time.sleep(2); found["afterwards"] = round(memory())
    print(json.dumps(found))

def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("what", choices=["rates", "memory", "stages", "service"])
    for name, default in dict(root=None, images=None, rounds=3, model="default", only=None).items(): parse.add_argument(f"--{name}", default=default, type=int if name in ("images", "rounds") else str)
    a = parse.parse_args()
    a.images = a.images or dict(rates=50_000, memory=200_000, stages=5_000, service=0)[a.what]
    a.only = a.only or dict(rates="one thread,processes,ray", memory="local,processes", stages="", service="")[a.what]
    with tempfile.TemporaryDirectory() as scratch: globals()[a.what](a, Path(scratch))

if __name__ == "__main__": main()
