"""Train the recipe's models, from the official images to the artefacts, with the committed configurations.

    gtsrb data download
    python benchmarks/recipe.py [--out runs/recipe] [--into .] [--jobs 1] [--dry-run]

1. `default`: five seeds on all training images; the first one is to ship, which is written here and was so before any was scored (`score.py` says when it does).
2. Its five folds, each without a fifth of the tracks: for temperature, threshold and the review of labels.
3. Five artefacts, benchmarks/models/1 … 5 (the ensemble), and the first one's weights for Keras in benchmarks/recipe.
4. `lite`: a small network that learns from the five beside the labels, and its folds, each taught by the one network that has not seen the fold either.

Every step is a `gtsrb` command, printed before it runs; one copies. What was interrupted goes on from its last epoch when the script is started again. What a step
leaves is committed, so that the steps may be done on different days and machines: a run whose artefact or answers (`gtsrb judge`) stand there, made with
its configuration, is not run again. Scoring is left out: `benchmarks/score.py` does it, once, at the end."""
import argparse, hashlib, json, os, shlex, shutil, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEEDS, SHIPPED, FOLDS = (1, 2, 3, 4, 5), 1, (0, 1, 2, 3, 4)

def plan(out, into):
    "Phases, one after the other; in each, chains that do not wait for each other; in each, steps in order: (name, command)."
    models, assets, kept, big, lite = into / "benchmarks/models", into / "gtsrb/assets", into / "benchmarks/folds", out / "default.json", out / "lite.json"
    answers = lambda name: [o for f in FOLDS for o in ("--fold", kept / f"{name}-{f}.npz")]
    seeds = [[(f"seed-{s}", ["train", "--config", big, "--out", out / f"seed-{s}", "--set", f"seed={s}"]),
              (f"model-{s}", ["export", out / f"seed-{s}", "--out", models / f"{s}", "--name", f"seed-{s}"])] for s in SEEDS]
    extra = {FOLDS[0]: ["--attack", "1000"], FOLDS[1]: ["--scores", into / "benchmarks/recipe/known_scores.csv"]}     # asked of one network each
    folds = [[(f"fold-{f}", ["train", "--config", big, "--out", out / f"fold-{f}", "--set", f"seed={SHIPPED}", "--set", f"fold={f}"]),
              (f"answers-{f}", ["judge", out / f"fold-{f}", "--out", kept / f"default-{f}.npz", *extra.get(f, [])]),
              (f"teacher-{f}", ["export", out / f"fold-{f}", "--out", kept / f"teacher-{f}", "--name", f"fold-{f}"])] for f in FOLDS]
    default = [("weights", ["copy", out / f"seed-{SHIPPED}/weights.npz", "--out", into / "benchmarks/recipe/weights.npz"]),
               ("calibrate", ["calibrate", *(models / f"{s}" for s in SEEDS), *answers("default"), "--out-of-fold", into / "benchmarks/recipe/out_of_fold.npz"])]
    exact = ["--precision", "float32"]                                                                               # rounding costs the small network: nbs/09a_recipe.ipynb
    small = [("lite-all", ["train", "--config", lite, "--out", out / "lite", *(o for s in SEEDS for o in ("--teacher", models / f"{s}"))]),
             ("lite", ["export", out / "lite", "--out", assets / "lite", "--name", "lite", *exact])]
    small_folds = [[(f"lite-fold-{f}", ["train", "--config", lite, "--out", out / f"lite-{f}", "--set", f"fold={f}", "--teacher", kept / f"teacher-{f}"]),
                    (f"lite-answers-{f}", ["judge", out / f"lite-{f}", "--out", kept / f"lite-{f}.npz", *exact])] for f in FOLDS]
    calibrated = [("calibrate-lite", ["calibrate", assets / "lite", *answers("lite")])]
    return [seeds + folds, [default, small, *small_folds], [calibrated]]

def option(command, name):
    "All values of an option."
    return [v for o, v in zip(command, command[1:]) if o == name]

def configuration(kept):
    "Of what an artefact's card, or a file of `gtsrb judge`, was made; None where it is not there. Teachers do not count: they are told by their files' hashes."
    from gtsrb.confidence import read_out_of_fold
    from gtsrb.train import TrainConfig
    if kept.suffix == ".npz": found = json.loads(read_out_of_fold(kept).recipe) if kept.exists() else None
    else: found = json.loads((kept / "card.json").read_text())["training"]["config"] if (kept / "card.json").exists() else None
    return found and TrainConfig.from_dict(found).to_dict() | dict(teacher=None)

def is_kept(chain):
    "Has a chain that begins with a training left all that it is to leave?"
    from gtsrb.cli import read_config
    (_, training), *others = chain
    if training[0] != "train": return False
    wanted = read_config(*option(training, "--config"), option(training, "--set")).to_dict() | dict(teacher=None)
    return all(configuration(out) == wanted for _, command in others for out in option(command, "--out"))

def copy(source, to, name=None):
    "An artefact under another name; the same network that is there already keeps its card, and the figures on it. Or a file, unless an earlier machine has kept it."
    from gtsrb.core import write_json
    if name is None:
        if source.exists() or not to.exists(): to.parent.mkdir(parents=True, exist_ok=True); shutil.copy(source, to)
        return
    card = json.loads((source / "card.json").read_text())
    if (to / "card.json").exists() and json.loads((to / "card.json").read_text())["model"] == card["model"]: return
    shutil.copytree(source, to, dirs_exist_ok=True); write_json(to / "card.json", card | dict(name=name))

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", type=Path, default=Path("runs/recipe")); a.add_argument("--into", type=Path, default=Path(".")); a.add_argument("--dry-run", action="store_true")
    a.add_argument("--jobs", type=int, default=1, help="chains at the same time, which share the cores")
    a = a.parse_args()
    from gtsrb.recipe import LITE, RECIPE
    a.out.mkdir(parents=True, exist_ok=True)
    for name, config in dict(default=RECIPE, lite=LITE).items(): (a.out / f"{name}.json").write_text(json.dumps(config.to_dict(), indent=1))
    done, lock = a.out / "done.json", threading.Lock(); finished = json.loads(done.read_text()) if done.exists() else {}
    def stamp(command):
        "A step as it is: its command, and the configurations that it names."
        return hashlib.sha256(repr([str(c) for c in command] + [Path(c).read_text() for c in option(command, "--config")]).encode()).hexdigest()[:16]
    threads = dict(TF_NUM_INTRAOP_THREADS=str(max(1, (os.cpu_count() or 1) // a.jobs))) if a.jobs > 1 else {}
    def follow(chain):
        if is_kept(chain): print(f"{', '.join(name for name, _ in chain)}: there already", flush=True); return
        for name, command in chain:
            if finished.get(name, {}).get("step") == stamp(command): continue
            print("gtsrb" * (command[0] != "copy"), shlex.join(map(str, command)), flush=True)
            if a.dry_run: continue
            start = time.time()
            if command[0] == "copy": copy(command[1], *option(command, "--out"), *option(command, "--name"))
            else: subprocess.run([sys.executable, "-c", "from gtsrb.cli import main; main()", *map(str, command)], check=True, env=os.environ | threads)
            with lock: finished[name] = dict(step=stamp(command), seconds=round(time.time() - start)); done.write_text(json.dumps(finished, indent=1) + "\n")
    for phase in plan(a.out, a.into):
        with ThreadPoolExecutor(a.jobs) as pool: list(pool.map(follow, phase))   # the first error is raised when the others have come to an end

if __name__ == "__main__": main()
