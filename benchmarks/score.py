"""Score the recipe's models on the official test images, once, and put every scoring on record.

    python benchmarks/score.py [--into .] [--dry-run]

After `recipe.py`: the five seeds, the ensemble of them, `lite`, and all pictures made worse for the first seed and `lite`. What has been scored already
is left alone, so the script may be started again; nothing that it finds changes a network, a temperature or a threshold. One thing the score decides:
the seed that was named beforehand becomes gtsrb/assets/default only if it has the mark (MARK) that the project asks of a new one; below it, what
ships stays."""
import argparse, json, shlex, shutil, subprocess, sys
from pathlib import Path

from recipe import SEEDS, SHIPPED, copy

MARK = 0.995   # of the official test images named rightly; older than any of these models

def plan(into):
    "(name, the file that says it is done, a test of its content, command)."
    models, assets, kept, record = into / "benchmarks/models", into / "gtsrb/assets", into / "benchmarks", ["--record", into / "benchmarks/scorings.csv"]
    scored, shown = (lambda card: "test" in card["metrics"]), (lambda card: "robustness" in card)
    steps = [(f"seed-{s}", models / f"{s}/card.json", scored, ["evaluate", "--model", models / f"{s}", *record, *(["--out", kept / "recipe"] if s == SHIPPED else [])]) for s in SEEDS]
    steps.append(("ensemble", kept / "ensemble/score.json", bool, ["evaluate", *(o for s in SEEDS for o in ("--model", models / f"{s}")), *record, "--out", kept / "ensemble"]))
    steps.append(("spread", models / f"{SHIPPED}/card.json", lambda card: "seeds" in card["metrics"], None))
    steps.append(("lite", assets / "lite/card.json", scored, ["evaluate", "--model", assets / "lite", *record, "--out", kept / "lite"]))
    return steps + [(f"robustness of {n}", m / "card.json", shown, ["robustness", "--model", m, "--card", "--out", o])
                    for n, m, o in ((f"seed-{SHIPPED}", models / f"{SHIPPED}", kept / "recipe"), ("lite", assets / "lite", kept / "lite"))]

def release(into):
    "Make the seed that was named beforehand the `default`, if it has the mark; what came of it, in words."
    ours = into / f"benchmarks/models/{SHIPPED}"
    accuracy = json.loads((ours / "card.json").read_text())["metrics"]["test"]["accuracy"]
    if accuracy < MARK: return f"default: stays what it is; seed {SHIPPED} has {accuracy:.2%}, below the mark of {MARK:.1%}"
    copy(ours, into / "gtsrb/assets/default", "default")
    for f in ("class_accuracy.csv", "probabilities.npz"): shutil.copy(into / "benchmarks/recipe" / f, into / "benchmarks/default" / f)
    return f"default: seed {SHIPPED}, {accuracy:.2%}"

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--into", type=Path, default=Path(".")); a.add_argument("--dry-run", action="store_true")
    a = a.parse_args()
    if missing := [s for s in SEEDS if not (a.into / f"benchmarks/models/{s}/card.json").exists()]: sys.exit(f"no models of seed {', '.join(map(str, missing))}: run benchmarks/recipe.py first")
    cards = {n: json.loads(f.read_text()) for n in (*(f"benchmarks/models/{s}" for s in SEEDS), "gtsrb/assets/lite") if (f := a.into / n / "card.json").exists()}
    if bare := [n for n, c in cards.items() if "known" not in c]: sys.exit(f"not calibrated yet: {', '.join(bare)}: run benchmarks/recipe.py first")
    for name, file, done, command in plan(a.into):
        if file.exists() and done(json.loads(file.read_text())): print(f"{name}: there already", flush=True); continue
        if "lite" in name and not file.exists(): print(f"{name}: not there", flush=True); continue
        print(f"{name}:", f"gtsrb {shlex.join(map(str, command))}" if command else "goes on the first seed's card", flush=True)
        if a.dry_run: continue
        if command: subprocess.run([sys.executable, "-c", "from gtsrb.cli import main; main()", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        else:
            from gtsrb.card import record_seeds
            record_seeds(file.parent, [a.into / f"benchmarks/models/{s}" for s in SEEDS])
    if not a.dry_run: print(release(a.into))

if __name__ == "__main__": main()
