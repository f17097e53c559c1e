"""The engines of `gtsrb predict` beside each other, their memory, and what a thread's time goes into.

    pip install '.[scale]' psutil
    python benchmarks/scale.py rates|memory|stages|service [--root DATA] [--images N] [--rounds 3] [--model default] [--only …] [--out nbs/results/scale.json]

`rates` (50,000 images) predicts the benchmark's own test images, repeated until there are enough (drawn signs where the data set is not there): one
process with one thread, `--engine processes` with two workers, `--engine ray` with two actors, in turn. Start-up is what the same takes for two
images, and is left out of the rates. Once a second every process is asked how long it has used a processor. Medians over the rounds; one during which somebody
else used more than a tenth of a processor is repeated.
`memory` (200,000 images) follows the resident memory of `local` and `processes`; a line through all but the first third says how it grows.
`stages` (5,000 images) takes one thread's work apart: reading files or a tar shard, decoding, model, and making the answer.
`service` asks the web service, set up as in deploy/kubernetes.yaml, for usual things and for the worst that its limits allow, and tells its memory.
The last line printed is the result as JSON; --out keeps it beside the others' results, for notebook 14_scale."""
import argparse, json, os, platform, re, statistics, subprocess, sys, tarfile, tempfile, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np, psutil

from gtsrb.core import home
from gtsrb.predict import Predictor, best, usable_cpus

ROOT = Path(__file__).resolve().parents[1]
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

KINDS = {"Answering": "actors", "ray::": "reading and writing", "raylet": "Ray's services", "gcs_server": "Ray's services", "Agent": "Ray's services", "_private": "Ray's services", "dashboard": "Ray's services",
         "spawn_main": "workers", "engine.py": "driver"}

def kind(process):
    "What a process of ours is for, in a word or two."
    return next((v for k, v in KINDS.items() if k in " ".join(process.cmdline())), "other")

def watch(process):
    "Wait for a process; processor seconds of it and of all that it started, by kind, and the greatest resident memory of all of them."
    seconds, peak, family, top = {}, 0, Counter(), psutil.Process(process.pid)
    while process.poll() is None:
        rss = 0
        for p in [top, *top.children(recursive=True)]:
            try:
                known, k = seconds.get(p.pid, ("other", 0))[0], kind(p)                   # one that has just ended has no name left; a worker of Ray takes several
                seconds[p.pid] = known if k == "other" or known == "actors" else k, sum(p.cpu_times()[:2]); rss += p.memory_info().rss
            except psutil.Error: pass
        peak = max(peak, rss)
        try: process.wait(1)
        except subprocess.TimeoutExpired: pass
    for k, s in seconds.values(): family[k] += s
    return family, peak

def measure(name, folders, model, scratch):
    "Images, seconds, processor seconds by kind, peak memory, bytes of the answers of one engine in a process of its own; and how many processors somebody else used meanwhile."
    script = scratch / "engine.py"; script.write_text(RUN.format(ENGINES[name]))
    out = Path(tempfile.mkdtemp(dir=scratch)) / "out"
    begin, used = time.perf_counter(), lambda: (t := psutil.cpu_times()) and sum(t[:3]); before = used()
    process = subprocess.Popen([sys.executable, script, model, out, *map(str, folders)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    family, peak = watch(process)
    took = time.perf_counter() - begin
    return int(process.stdout.read()), took, family, peak, sum(f.stat().st_size for f in out.glob("*.parquet")), max(0, used() - before - sum(family.values())) / took

def rates(a, scratch):
    folders, images = sources(scratch, a.root, a.images)
    few = scratch / "few"; few.mkdir()
    for p in sorted(images.glob("*.ppm"))[:2]: (few / p.name).symlink_to(p)
    found, told = {}, {}
    for _ in range(a.rounds):
        for name in a.only.split(","):
            for tries in range(5):
                _, start, idle, _, _, _ = measure(name, [few], a.model, scratch)
                n, took, busy, peak, size, others = measure(name, folders, a.model, scratch)
                rate = (n - 2) / (took - start)
                print(f"{name}: {rate:.0f} images/s, start-up {start:.1f} s, others used {others:.2f} processors", flush=True)
                if others < 0.1: break                                          # a machine that is shared tells nothing: again
                time.sleep(30)
            else: sys.exit("this machine is not quiet enough")
            found.setdefault(name, []).append(rate)
            spent = {k: round(1e6 * (s - idle[k]) / n) for k, s in busy.items() if 1e6 * (s - idle[k]) / n >= 1}
            told[name] = dict(images=n, start_s=round(start, 1), peak_mib=round(peak / 2**20), bytes_of_answer=round(size / n, 1), processor_us_an_image=spent)
    for k, v in found.items(): told[k] |= dict(images_s=round(statistics.median(v)), rounds=[round(r) for r in v])
    ratio = lambda b, c: round(told[b]["images_s"] / told[c]["images_s"], 3) if b in told and c in told else None
    return told | {"processes ÷ one thread": ratio("processes", "one thread"), "ray ÷ processes": ratio("ray", "processes")}

def memory(a, scratch):
    folders, _ = sources(scratch, a.root, a.images); found = {}
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
        found[engine] = dict(images=n, returncode=process.returncode, mib={f"{q:.0%}": round(float(np.interp(q * n, at, rss)) / 2**20, 1) for q in (0.05, 0.33, 0.5, 0.75, 0.95)}, slope_mib_per_100000=round(float(slope), 2))
        print(engine, json.dumps(found[engine]), flush=True)
    return found

def stages(a, scratch):
    from gtsrb.scale import Part, read_part
    folders, images = sources(scratch, a.root, 1)
    p, paths = Predictor(a.model, threads=1), sorted(images.glob("*.ppm"))[:a.images]
    with tarfile.open(scratch / "shard.tar", "w") as t:
        for f in paths: t.add(f, f.name)
    shard = Part("shard", "shard.tar", (("shard.tar", str(scratch / "shard.tar")),)); found, seen = {}, {}
    steps = dict(files=lambda: [f.read_bytes() for f in paths], shard=lambda: [d for _, d in read_part(shard)], decode=lambda: [p.preprocess.squares([d], p.limits)[0] for d in seen["shard"]],
                 model=lambda: np.concatenate([p(np.stack(seen["decode"][i:i + 64])) for i in range(0, len(paths), 64)]), answer=lambda: [best(r, p.card["classes"]) for r in seen["model"]])
    for _ in range(a.rounds):
        for name, step in steps.items():
            begin = time.perf_counter(); seen[name] = step(); found.setdefault(name, []).append((time.perf_counter() - begin) / len(paths) * 1e6)
    return dict(images=len(paths), bytes_an_image=round(sum(map(len, seen["files"])) / len(paths)), us_an_image={k: round(statistics.median(v), 1) for k, v in found.items()})

def service(a, scratch):
    import yaml
    from gtsrb.preprocess import cv2
    from gtsrb.signs import legend_png
    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import serving
    pod, = (d["spec"]["template"]["spec"]["containers"][0] for d in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()) if d["kind"] == "Deployment")
    settings = {e["name"].removeprefix("GTSRB_").lower(): e["value"] for e in pod["env"]} | dict(model=a.model)
    noise = np.random.default_rng(0).normal(128, 60, (4000, 4000, 3)).clip(0, 255).astype(np.uint8)
    large = next(d for q in range(60, 0, -5) if len(d := cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, q])[1].tobytes()) <= 8 * 2**20)
    loads = {"64 drawn signs, 4 at a time": ([(f"{i}.png", legend_png(i % 43, 48)) for i in range(64)], 4, 200), "7 pictures of 16 megapixels, 16 at a time": ([(f"{i}.jpg", large) for i in range(7)], 16, 64)}
    with serving(scratch / "log", **settings) as s:
        process = psutil.Process(s.process.pid)
        memory = lambda: round(sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20)
        time.sleep(2); found = dict(ready_mib=memory())
        for name, (files, clients, n) in loads.items():
            with ThreadPoolExecutor(clients) as threads:
                peak, asked = 0, [threads.submit(s.post, *files) for _ in range(n)]
                while not all(f.done() for f in asked): peak = max(peak, memory()); time.sleep(0.02)
            found[name] = dict(peak_mib=peak, statuses=Counter(f.result().status_code for f in asked))
        time.sleep(2)
        return found | dict(afterwards_mib=memory())

def machine(model):
    "What the figures belong to."
    name = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    card = Predictor(model).card
    return dict(processor=name[1] if name else platform.processor(), processors=usable_cpus(), model=card["name"], sha256=card["model"]["sha256"][:12], macs=card["model"].get("multiply_accumulates"))

def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("what", choices=["rates", "memory", "stages", "service"])
    for name, default in dict(root=None, images=None, rounds=3, model="default", only=None, out=None).items(): parse.add_argument(f"--{name}", default=default, type=int if name in ("images", "rounds") else str)
    a = parse.parse_args()
    a.images = a.images or dict(rates=50_000, memory=200_000, stages=5_000).get(a.what)
    a.only = a.only or dict(rates=",".join(ENGINES), memory="local,processes").get(a.what)
    with tempfile.TemporaryDirectory() as scratch: result = {a.what: globals()[a.what](a, Path(scratch)) | machine(a.model)}
    print(json.dumps(result, ensure_ascii=False))
    if a.out: Path(a.out).write_text(json.dumps((json.loads(Path(a.out).read_text()) if Path(a.out).exists() else {}) | result, indent=1, ensure_ascii=False) + "\n")

if __name__ == "__main__": main()
