"""Train everything that ships, from the official images to the artefacts, with the committed configurations.

    gtsrb data download
    python benchmarks/recipe.py [--out runs/recipe] [--into .] [--jobs 1] [--dry-run]

1. `default`: five seeds on all training images; the first one ships, which is written here and was so before any was scored.
2. Its five folds, each without a fifth of the tracks: for temperature, threshold and the review of labels.
3. Five artefacts, benchmarks/models/1 … 5 (the ensemble), and gtsrb/assets/default, the same as the first.
4. `lite`: a small network that learns from the five beside the labels, and its folds, each taught by the one network that has not seen the fold either.
What a step leaves is committed, so that the steps may be done on different days: the folds' answers (`gtsrb judge`) among it.

Every step is a `gtsrb` command, printed before it runs. What was interrupted goes on from its last epoch when the script is started again, and what
was finished is not done again. Scoring is left out: `gtsrb evaluate MODEL --record benchmarks/scorings.csv` does it, once, at the end."""
import argparse, json, os, shlex, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEEDS, SHIPPED, FOLDS = (1, 2, 3, 4, 5), 1, (0, 1, 2, 3, 4)

def plan(out, into):
    "Phases, one after the other; in each, chains that do not wait for each other; in each, steps in order: (name, command)."
    models, assets, kept, lite = into / "benchmarks/models", into / "gtsrb/assets", into / "benchmarks/folds", out / "lite.json"
    answers = lambda name: [o for f in FOLDS for o in ("--fold", kept / f"{name}-{f}.npz")]
    seeds = [[(f"seed-{s}", ["train", "--out", out / f"seed-{s}", "--set", f"seed={s}"]),
              (f"model-{s}", ["export", out / f"seed-{s}", "--out", models / f"{s}", "--name", f"seed-{s}"])] for s in SEEDS]
    folds = [[(f"fold-{f}", ["train", "--out", out / f"fold-{f}", "--set", f"seed={SHIPPED}", "--set", f"fold={f}"]),
              (f"answers-{f}", ["judge", out / f"fold-{f}", "--out", kept / f"default-{f}.npz", *(["--attack", "1000"] if f == FOLDS[0] else [])]),
              (f"teacher-{f}", ["export", out / f"fold-{f}", "--out", out / f"teacher-{f}", "--name", f"fold-{f}"])] for f in FOLDS]
    default = [("default", ["export", out / f"seed-{SHIPPED}", "--out", assets / "default"]),
               ("calibrate", ["calibrate", assets / "default", *(models / f"{s}" for s in SEEDS), *answers("default"), "--out-of-fold", into / "benchmarks/default/out_of_fold.npz"])]
    small = [("lite-all", ["train", "--config", lite, "--out", out / "lite", *(o for s in SEEDS for o in ("--teacher", models / f"{s}"))]),
             ("lite", ["export", out / "lite", "--out", assets / "lite", "--name", "lite"])]
    small_folds = [[(f"lite-fold-{f}", ["train", "--config", lite, "--out", out / f"lite-{f}", "--set", f"fold={f}", "--teacher", out / f"teacher-{f}"]),
                    (f"lite-answers-{f}", ["judge", out / f"lite-{f}", "--out", kept / f"lite-{f}.npz"])] for f in FOLDS]
    calibrated = [("calibrate-lite", ["calibrate", assets / "lite", *answers("lite"), "--out-of-fold", into / "benchmarks/lite/out_of_fold.npz"])]
    return [seeds + folds, [default, small, *small_folds], [calibrated]]

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", type=Path, default=Path("runs/recipe")); a.add_argument("--into", type=Path, default=Path(".")); a.add_argument("--dry-run", action="store_true")
    a.add_argument("--jobs", type=int, default=1, help="chains at the same time, which share the cores")
    a = a.parse_args()
    done, lock = a.out / "done.json", threading.Lock(); finished = json.loads(done.read_text()) if done.exists() else {}
    threads = dict(TF_NUM_INTRAOP_THREADS=str(max(1, (os.cpu_count() or 1) // a.jobs))) if a.jobs > 1 else {}
    def follow(chain):
        for name, command in chain:
            if name in finished: continue
            print("gtsrb", shlex.join(map(str, command)), flush=True)
            if a.dry_run: continue
            start = time.time()
            subprocess.run([sys.executable, "-c", "from gtsrb.cli import main; main()", *map(str, command)], check=True, env=os.environ | threads)
            with lock: finished[name] = round(time.time() - start); done.write_text(json.dumps(finished, indent=1) + "\n")
    if not a.dry_run:
        from gtsrb.recipe import LITE
        a.out.mkdir(parents=True, exist_ok=True); (a.out / "lite.json").write_text(json.dumps(LITE.to_dict(), indent=1))
    for phase in plan(a.out, a.into):
        with ThreadPoolExecutor(a.jobs) as pool: list(pool.map(follow, phase))   # the first error is raised when the others have come to an end

if __name__ == "__main__": main()
