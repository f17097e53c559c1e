"""The command `gtsrb`, run as its users run it: a process of its own, exit code, standard output, standard error."""
import csv, io, json, os, shutil, struct, subprocess, sys
from pathlib import Path

import numpy as np, pytest

from conftest import SHIPPED, environment
from gtsrb.core import CLASSES, home
from gtsrb.preprocess import cv2
from gtsrb.signs import legend_png

def gtsrb(*args, env=None, **kw):
    "Run the command; the finished process."
    call = "import sys; from gtsrb.cli import main; sys.argv[0] = 'gtsrb'; main()"
    return subprocess.run([sys.executable, "-c", call, *map(str, args)], capture_output=True, text=True, timeout=300,
                          env=environment() | (env or {}), **kw)

def rows(done): return list(csv.DictReader(io.StringIO(done.stdout)))

BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 50_000, 50_000, 8, 2, 0, 0, 0, 0)

@pytest.fixture
def folder(tmp_path):
    "Good images, and one of each kind of bad one."
    d = tmp_path / "pictures"
    (d / "sub").mkdir(parents=True)
    jpeg = cv2.imencode(".jpg", cv2.imdecode(np.frombuffer(legend_png(14, 96), np.uint8), cv2.IMREAD_COLOR))[1].tobytes()
    for name, data in {"a.png": legend_png(1, 64), "sub/b.JPG": jpeg, "cut.jpg": jpeg[:len(jpeg) // 2], "empty.png": b"",
                       "text.png": b"a letter", "vast.png": BOMB, "readme.txt": b"no image suffix: not tried"}.items():
        (d / name).write_bytes(data)
    (d / "dangling.ppm").symlink_to(d / "nowhere.ppm")
    return d

def test_every_good_image_is_answered_and_every_bad_one_named(folder, tiny):
    done = gtsrb("predict", folder, "--model", tiny)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    got = {Path(r["path"]).relative_to(folder).as_posix(): r for r in rows(done)}
    assert {n: r["error"].split(":")[0] for n, r in got.items()} == {"a.png": "", "sub/b.JPG": "", "cut.jpg": "truncated_image",
        "dangling.ppm": "unreadable_file", "empty.png": "empty_file", "text.png": "unsupported_format", "vast.png": "too_many_pixels"}
    for n in ("a.png", "sub/b.JPG"):
        assert got[n]["name"] == CLASSES[int(got[n]["class"])].name and 0 < float(got[n]["confidence"]) <= 1
    for n in ("cut.jpg", "dangling.ppm", "empty.png", "text.png", "vast.png"): assert n in done.stderr

def test_good_ones_alone_exit_0_and_say_nothing(folder, tiny):
    done = gtsrb("predict", folder / "a.png", folder / "sub", "--model", tiny)
    assert (done.returncode, done.stderr, len(rows(done))) == (0, "", 2)

def test_a_path_given_outright_is_always_tried(folder, tiny):
    done = gtsrb("predict", folder / "readme.txt", folder / "missing.png", "--model", tiny)
    assert done.returncode == 1 and [r["error"].split(":")[0] for r in rows(done)] == ["unsupported_format", "unreadable_file"]

def test_out_probs_and_the_benchmark_format_agree(folder, tiny, tmp_path):
    assert gtsrb("predict", folder, "--model", tiny, "--out", tmp_path / "p.csv", "--probs", tmp_path / "p.npy").returncode == 1
    table, probs = list(csv.DictReader(open(tmp_path / "p.csv", newline=""))), np.load(tmp_path / "p.npy")
    assert probs.shape == (len(table), 43) and probs.dtype == np.float32
    for r, p in zip(table, probs):
        assert np.isnan(p).all() if r["error"] else (p.argmax() == int(r["class"]) and abs(p.sum() - 1) < 1e-5)
    done = gtsrb("predict", folder, "--model", tiny, "--format", "gtsrb")
    assert done.stdout.splitlines() == [f"{Path(r['path']).name};{r['class']}" for r in table if not r["error"]]

def test_top_k_adds_columns(folder, tiny):
    r, = rows(gtsrb("predict", folder / "a.png", "--top-k", 3, "--model", tiny))
    assert list(r)[5:] == [f"{c}_{k}" for k in (2, 3) for c in ("class", "name", "confidence")]
    assert float(r["confidence"]) >= float(r["confidence_2"]) >= float(r["confidence_3"])

@pytest.mark.parametrize("args", [["predict"], ["predict", "x.png", "--top-k", "0"], ["predict", "x.png", "--format", "xml"], ["fly"],
                                  ["train", "--stop-after", "0"], ["export"]])
def test_wrong_usage_is_2(args): assert gtsrb(*args).returncode == 2

@pytest.mark.parametrize("args, says", [(["predict", ".", "--model", "nowhere"], "no artefact: nowhere is not a folder"),
    (["train", "--set", "epoch=3"], "name=value"), (["evaluate", "--root", "nowhere"], "gtsrb data download"),
    (["train", "--root", "nowhere"], "gtsrb data download"), (["train", "--set", "schedule=steps"], "schedule cannot be 'steps'"),
    (["train", "--set", "batch_size=0"], "batch_size cannot be 0")])
def test_what_cannot_work_is_said_in_one_line(args, says, tmp_path, tiny):
    env = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = gtsrb(*args, *(["--model", tiny] if args[0] == "evaluate" else []), cwd=tmp_path, env=env)
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr

def test_an_empty_folder_is_an_error(tmp_path, tiny):
    done = gtsrb("predict", tmp_path, "--model", tiny)
    assert done.returncode == 1 and done.stdout == "" and "no image under" in done.stderr

def test_a_reader_that_leaves_early_is_no_crash(folder, tiny):
    call = f"{sys.executable} -c 'from gtsrb.cli import main; main()' predict {' '.join([str(folder / 'a.png')] * 800)} --model {tiny} | head -1"
    done = subprocess.run(call, shell=True, capture_output=True, text=True, env=environment())
    assert done.stdout.startswith("path,") and "Traceback" not in done.stderr

def test_opencv_that_cannot_be_loaded(folder, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = gtsrb("predict", folder, env={"PYTHONPATH": path})
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "apt-get install libgl1 libglib2.0-0" in done.stderr and "opencv-python-headless" in done.stderr

def test_serving_commands_load_no_training_library(folder, tiny):
    call = ("import sys; from gtsrb.cli import main; sys.argv = ['gtsrb', 'predict', *sys.argv[1:]]\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print({'tensorflow', 'keras', 'pandas', 'matplotlib'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", call, str(folder / "a.png"), "--model", str(tiny)], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines()[-1] == "set()"

def test_robustness(tmp_path, tiny):
    from gtsrb.robustness import VIEWS
    from gtsrb.signs import synthetic_dataset
    root = synthetic_dataset(tmp_path / "signs", 86)
    call = ["robustness", "--model", tiny, "--root", root, "--out", tmp_path / "worse"]
    done = gtsrb(*call, "--severity", 3, "--severity", 1, "--every", 4)
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader(open(tmp_path / "worse/robustness.csv")))
    assert [(r["view"], r["severity"]) for r in found] == [(v, s) for v in VIEWS for s in "13"] and len({r["images"] for r in found}) == 1
    assert set(csv.DictReader(open(tmp_path / "worse/robustness_classes.csv")).fieldnames) == {"class", *VIEWS}
    for wrong, code, said in ((["--card"], 1, "official test set alone"), (["--card", "--severity", 2], 2, "--card needs --severity 3"), (["--severity", 6], 2, "'--severity'")):
        done = gtsrb(*call, *wrong)
        assert done.returncode == code and said in done.stderr, done.stderr

@pytest.mark.slow
def test_train_export_evaluate_from_the_command_line(tmp_path):
    "The whole way on drawn signs: two tiny runs, an interrupted one among them, an artefact, its predictions."
    from gtsrb.signs import synthetic_dataset
    root, env = synthetic_dataset(tmp_path / "signs", 215), {"TF_CPP_MIN_LOG_LEVEL": "3"}
    small = [f"--set={s}" for s in ("epochs=2", "batch_size=43", "policy=float32", "folds=2", "small_epochs=0", "synthetic=0", "negatives=0", 'options={"widths": [16, 16, 32]}')]
    for args in (["--stop-after", 1, "--out", tmp_path / "all"], ["--out", tmp_path / "all"], ["--set=fold=1", "--out", tmp_path / "other"], ["--set=fold=0", "--out", tmp_path / "fold"]):
        done = gtsrb("train", *small, "--root", root, *args, env=env)
        assert done.returncode == 0, done.stderr
    assert [json.loads(l)["epoch"] for l in done.stdout.splitlines()] == [1, 2]
    done = gtsrb("export", tmp_path / "all", "--calibration", tmp_path / "fold", "--out", tmp_path / "made", "--name", "made", "--root", root, env=env)
    assert done.returncode == 0, done.stderr
    for args in (["export", tmp_path / "all", "--out", tmp_path / "telling"], ["judge", tmp_path / "fold", "--out", tmp_path / "0.npz", "--attack", 3], ["judge", tmp_path / "other", "--out", tmp_path / "1.npz", "--scores", tmp_path / "told/scores.csv"]):
        done = gtsrb(*args, "--root", root, env=env)
        assert done.returncode == 0, done.stderr
    head, *told = (tmp_path / "told/scores.csv").read_text().splitlines()
    assert head.startswith("score,family,images,auroc") and {t.split(",")[0] for t in told} == {"odds", "energy", "margin", "height", "features"}
    assert gtsrb("predict", root / "GTSRB/Final_Test/Images", "--model", tmp_path / "telling", "--known").returncode == 1     # it cannot tell yet
    done = gtsrb("calibrate", tmp_path / "telling", "--fold", tmp_path / "0.npz", "--fold", tmp_path / "0.npz", "--root", root, env=env)
    assert done.returncode == 1 and "each of 2 folds once; they hold out 0, 0" in done.stderr
    done = gtsrb("calibrate", tmp_path / "telling", "--fold", tmp_path / "0.npz", "--fold", tmp_path / "1.npz", "--out-of-fold", tmp_path / "oof.npz", "--known-share", 0.9, "--root", root, env=env)
    assert done.returncode == 0 and "known signs by" in done.stdout, done.stderr
    card = json.loads((tmp_path / "telling/card.json").read_text())
    assert card["known"]["share"] == 0.9 <= card["known"]["passes"] and np.load(tmp_path / "oof.npz")["logits"].shape == (card["known"]["images"], 43) and len(card["attack"]["rows"]) == 5
    pictures = root / "GTSRB/Final_Test/Images"
    assert gtsrb("predict", pictures, "--model", tmp_path / "telling", "--known").stdout.startswith("path,class,name,confidence,error,known,known_score")
    said = json.JSONDecoder().raw_decode(gtsrb("evaluate", "--model", tmp_path / "telling", "--root", root, env=env).stdout)[0]
    assert {"brier", "aurc", "error_rejecting_1pct"} <= said.keys() and 0 <= said["known"]["passes"] <= 1 and said["known"]["families"]["plates"]["kept_aside"]
    done = gtsrb("predict", pictures, "--model", tmp_path / "made")
    assert done.returncode == 0 and len(rows(done)) == len(list(pictures.glob("*.ppm")))
    evaluate = ["evaluate", "--model", tmp_path / "made", "--root", root]
    done = gtsrb(*evaluate, "--out", tmp_path / "bench", env=env)
    assert done.returncode == 0 and "not the official test set" in done.stderr
    assert np.load(tmp_path / "bench/probabilities.npz")["probabilities"].shape == (len(list(pictures.glob("*.ppm"))), 43)
    done = gtsrb(*evaluate, "--model", tmp_path / "telling", "--out", tmp_path / "both", env=env)
    score, p = (json.loads((tmp_path / f"{n}/score.json").read_text()) for n in ("bench", "both")), [np.load(tmp_path / f"{n}/probabilities.npz")["probabilities"] for n in ("bench", "both")]
    assert done.returncode == 0 and [v["images"] for v in score] == [len(p[0]), len(p[1])] and np.abs(p[0] - p[1]).max() > 0      # answers averaged
    done = gtsrb(*evaluate, "--record", tmp_path / "scorings.csv", env=env)                             # drawn signs never get onto a card
    assert done.returncode == 1 and "official" in done.stderr
    assert json.loads((tmp_path / "made/card.json").read_text())["metrics"] == {}

def test_the_recipe_is_made_of_commands_that_there_are(tmp_path):
    "Every step of benchmarks/recipe.py, parsed; the files that it takes are made by steps before it."
    import importlib.util
    from typer.main import get_command
    from gtsrb.cli import app
    spec = importlib.util.spec_from_file_location("recipe", Path(__file__).resolve().parents[1] / "benchmarks/recipe.py")
    recipe = importlib.util.module_from_spec(spec); spec.loader.exec_module(recipe)
    out, into = tmp_path / "out", tmp_path / "into"
    made, names = {str(out / "default.json"), str(out / "lite.json")}, []
    kept = {str(into / f"benchmarks/recipe/{name}") for name in ("out_of_fold.npz", "known_scores.csv")}
    for phase in recipe.plan(out, into):
        after = set()
        for chain in phase:                                                                    # none waits for another of its phase
            own = set(made)
            for name, command in chain:
                verb, *args = map(str, command)
                if verb != "copy": get_command(app).commands[verb].make_context(name, list(args))   # raises where an option is unknown
                to = next((a for o, a in zip(args, args[1:]) if o == "--out"), None)
                needed = {a.removesuffix("/weights.npz") for a in args if a.startswith(str(tmp_path)) and a != to} - kept     # a run's folder holds its weights
                assert needed <= own, (name, needed - own)
                own.add(to); names.append(name)
            after |= own
        made |= after
    assert len(names) == len(set(names))
    import dataclasses
    from gtsrb.recipe import RECIPE
    seed, *_, other = recipe.plan(out, into)[0]
    out.mkdir(); (out / "default.json").write_text(json.dumps(RECIPE.to_dict()))
    assert not recipe.is_kept(seed)
    (into / "benchmarks/models/1").mkdir(parents=True)
    (into / "benchmarks/models/1/card.json").write_text(json.dumps(dict(name="seed-1", model=dict(sha256="1"), training=dict(config=dataclasses.replace(RECIPE, seed=1).to_dict()))))
    assert recipe.is_kept(seed) and not recipe.is_kept(other)                                   # what is there already is not trained again
    recipe.copy(into / "benchmarks/models/1", into / "default", "default")
    card = json.loads((into / "default/card.json").read_text())
    assert card["name"] == "default"
    (into / "default/card.json").write_text(json.dumps(card | dict(metrics=dict(test=1))))
    recipe.copy(into / "benchmarks/models/1", into / "default", "default")
    assert json.loads((into / "default/card.json").read_text())["metrics"] == dict(test=1)      # the same network keeps its figures

def test_scoring_is_made_of_commands_that_there_are(tmp_path, capsys, monkeypatch):
    "Every step of benchmarks/score.py, parsed; what is scored already is not scored again; `default` takes its seed's figures and no other network's."
    import importlib.util
    from typer.main import get_command
    from gtsrb.cli import app, scored_as
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    score = importlib.util.module_from_spec(spec); spec.loader.exec_module(score)
    commands = [c for *_, c in score.plan(tmp_path) if c]
    for verb, *args in commands: get_command(app).commands[verb].make_context(verb, [str(a) for a in args])
    assert sum("--record" in c for c in commands) == 7                                          # five seeds, the ensemble, lite
    cards = [dict(name=f"seed-{s}", model=dict(sha256=f"{s}"), training=dict(config=dict(seed=s)), metrics=dict(test=dict(errors=10 + s, accuracy=1 - s / 1000))) for s in score.SEEDS]
    assert len({scored_as(c)["model_sha256"] for c in [*cards, dict(name="both", members=cards[:2])]}) == 6
    for s, c in zip(score.SEEDS, cards): (f := tmp_path / f"benchmarks/models/{s}").mkdir(parents=True); (f / "card.json").write_text(json.dumps(c))
    monkeypatch.setattr("sys.argv", ["score.py", "--into", str(tmp_path), "--dry-run"])
    with pytest.raises(SystemExit, match="not calibrated yet: benchmarks/models/1, "): score.main()      # scores would be those of another temperature
    for s, c in zip(score.SEEDS, cards): (tmp_path / f"benchmarks/models/{s}/card.json").write_text(json.dumps(c | dict(temperature=0.7, known=dict(threshold=5.0))))
    (f := tmp_path / "gtsrb/assets/lite").mkdir(parents=True); (f / "card.json").write_text(json.dumps(cards[0] | dict(metrics={})))
    with pytest.raises(SystemExit, match="not calibrated yet: gtsrb/assets/lite:"): score.main()
    shutil.rmtree(f)
    score.main()
    said = capsys.readouterr().out
    with monkeypatch.context() as m, pytest.raises(SystemExit, match="no models of seed 1, 2"): m.setattr("sys.argv", ["score.py", "--into", str(tmp_path / "nowhere")]); score.main()
    assert said.count("there already") == 5 and "spread: goes on" in said and "ensemble: gtsrb evaluate" in said and "lite: not there" in said
    for name in ("recipe", "default"): (f := tmp_path / f"benchmarks/{name}").mkdir(); (f / "class_accuracy.csv").write_text(name); (f / "probabilities.npz").write_text(name)
    assert "seed 1, 99.90%" in score.release(tmp_path) and (tmp_path / "benchmarks/default/class_accuracy.csv").read_text() == "recipe"
    shipped = json.loads((tmp_path / "gtsrb/assets/default/card.json").read_text()); assert (shipped["name"], shipped["model"]) == ("default", cards[0]["model"])
    (tmp_path / "benchmarks/models/1/card.json").write_text(json.dumps(cards[0] | dict(model=dict(sha256="other"), metrics=dict(test=dict(accuracy=0.9946)))))
    assert "99.46%, below the mark" in score.release(tmp_path) and json.loads((tmp_path / "gtsrb/assets/default/card.json").read_text()) == shipped

@pytest.mark.real
def test_the_official_test_set_scored_from_outside(tmp_path):
    "All 12,630 images by the command, compared with the official table by nothing of ours."
    images = home() / "GTSRB/Final_Test/Images"
    done = gtsrb("predict", images, "--format", "gtsrb", "--out", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    got = dict(line.split(";") for line in (tmp_path / "out.csv").read_text().splitlines())
    with open(home() / "GT-final_test.csv", newline="") as f: want = {r["Filename"]: r["ClassId"] for r in csv.DictReader(f, delimiter=";")}
    assert set(got) == set(want) and len(want) == 12_630
    right = sum(got[n] == want[n] for n in want)
    assert right / len(want) >= 0.995
    card = json.loads((SHIPPED / "card.json").read_text())
    assert card["metrics"]["test"]["errors"] == len(want) - right            # the card says the same
