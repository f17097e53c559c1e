"""Which labels, or contents, of the data set look wrong? Lists for somebody to look at: benchmarks/labels/train.csv and test.csv.

    gtsrb data download
    python benchmarks/labels.py [--into .] [--sheets FOLDER]

Training images: from the recipe's out-of-fold answers (benchmarks/recipe/out_of_fold.npz), so that each is judged by a network that did
not see its track. Test images: from its first seed, benchmarks/models/1. A row for each image whose label is suspected, each other error, and the images that look least
like a sign; `reason` is for somebody who looked, and what was written there stays when a list is made again. --sheets writes the pictures, numbered
by row, to look at. The last line says how many rows wait for a reason. How images are chosen: nbs/08c_errors.ipynb."""
import argparse
from pathlib import Path

from gtsrb.confidence import known_scores, read_out_of_fold
from gtsrb.core import softmax
from gtsrb.data import image_paths, read_table
from gtsrb.errors import keep_reasons, label_candidates, plot_candidates
from gtsrb.predict import Predictor

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--into", type=Path, default=Path(".")); a.add_argument("--root"); a.add_argument("--sheets", type=Path)
    a = a.parse_args()
    predictor, table = Predictor(str(a.into / "benchmarks/models/1")), read_table(a.root)
    oof, test = read_out_of_fold(a.into / "benchmarks/recipe/out_of_fold.npz"), table[table["set"] == "test"]
    probabilities, scores = predictor.answers(image_paths(test, a.root))
    lists = dict(train=label_candidates(oof.path, oof.y_true, softmax(oof.logits, predictor.card["temperature"]), known_scores(oof.logits)[predictor.known["score"]]),
                 test=label_candidates(test["path"].to_numpy(str), test["class"].to_numpy(), probabilities, scores))
    for name, found in lists.items():
        file = a.into / f"benchmarks/labels/{name}.csv"; file.parent.mkdir(parents=True, exist_ok=True)
        found = keep_reasons(found, file); found.to_csv(file, index=False, lineterminator="\n")
        print(f"{file}: {len(found)} images, {(found['reason'] == '').sum()} wait for a reason")
        if a.sheets:
            a.sheets.mkdir(parents=True, exist_ok=True)
            rows = table.set_index("path").loc[found["path"]].reset_index()
            for k in range(0, len(found), 64):
                figure = plot_candidates(predictor.preprocess.squares(image_paths(rows[k:k+64], a.root)), found[k:k+64])
                figure.savefig(a.sheets / f"{name}-{k}.png", dpi=110)

if __name__ == "__main__": main()
