"""Score everything that ships on the official test images, once, and put every scoring on record.

    python benchmarks/score.py [--into .] [--dry-run]

After `recipe.py`: the five seeds, the ensemble of them, `lite`, and all pictures made worse for the two that ship. `default` is the first seed under
another name and is not scored again: it takes that seed's figures, and the spread of the five. What has been scored already is left alone, so the
script may be started again; nothing that it finds changes a network, a temperature or a threshold."""
import argparse, json, shlex, subprocess, sys
from pathlib import Path

from recipe import SEEDS, SHIPPED

def plan(into):
    "(name, the file that says it is done, a test of its content, command)."
    models, assets, kept, record = into / "benchmarks/models", into / "gtsrb/assets", into / "benchmarks", ["--record", into / "benchmarks/scorings.csv"]
    scored, shown = (lambda card: "test" in card["metrics"]), (lambda card: "robustness" in card)
    steps = [(f"seed-{s}", models / f"{s}/card.json", scored, ["evaluate", "--model", models / f"{s}", *record, *(["--out", kept / "default"] if s == SHIPPED else [])]) for s in SEEDS]
    steps.append(("ensemble", kept / "ensemble/score.json", bool, ["evaluate", *(o for s in SEEDS for o in ("--model", models / f"{s}")), *record, "--out", kept / "ensemble"]))
    steps.append(("default", assets / "default/card.json", lambda card: "seeds" in card["metrics"], None))
    steps.append(("lite", assets / "lite/card.json", scored, ["evaluate", "--model", assets / "lite", *record, "--out", kept / "lite"]))
    return steps + [(f"robustness of {n}", assets / n / "card.json", shown, ["robustness", "--model", assets / n, "--card", "--out", kept / n]) for n in ("default", "lite")]

def share(into):
    "The first seed's figures on the card of `default`, which is the same network, and the spread of all."
    from gtsrb.card import record_seeds
    from gtsrb.core import write_json
    first, default = into / f"benchmarks/models/{SHIPPED}/card.json", into / "gtsrb/assets/default/card.json"
    source, card = (json.loads(f.read_text()) for f in (first, default))
    if source["model"] != card["model"]: sys.exit(f"{default} is another network than {first}: run benchmarks/recipe.py first")
    write_json(default, card | dict(metrics=card["metrics"] | dict(test=source["metrics"]["test"])))
    record_seeds(default.parent, [into / f"benchmarks/models/{s}" for s in SEEDS])

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--into", type=Path, default=Path(".")); a.add_argument("--dry-run", action="store_true")
    a = a.parse_args()
    if missing := [s for s in SEEDS if not (a.into / f"benchmarks/models/{s}/card.json").exists()]: sys.exit(f"no models of seed {', '.join(map(str, missing))}: run benchmarks/recipe.py first")
    cards = {f"benchmarks/models/{s}": json.loads((a.into / f"benchmarks/models/{s}/card.json").read_text()) for s in SEEDS}
    if bare := [n for n, c in cards.items() if "known" not in c]: sys.exit(f"not calibrated yet: {', '.join(bare)}: run benchmarks/recipe.py first")
    default = json.loads((a.into / "gtsrb/assets/default/card.json").read_text())
    if any(default[k] != cards[f"benchmarks/models/{SHIPPED}"][k] for k in ("model", "temperature", "known")): sys.exit(f"gtsrb/assets/default is not seed {SHIPPED} as calibrated: run benchmarks/recipe.py first")
    for name, file, done, command in plan(a.into):
        if file.exists() and done(json.loads(file.read_text())): print(f"{name}: there already", flush=True); continue
        if "lite" in name and not file.exists(): print(f"{name}: not there", flush=True); continue
        print(f"{name}:", f"gtsrb {shlex.join(map(str, command))}" if command else "takes its figures from its seed", flush=True)
        if a.dry_run: continue
        if command: subprocess.run([sys.executable, "-c", "from gtsrb.cli import main; main()", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        else: share(a.into)

if __name__ == "__main__": main()
