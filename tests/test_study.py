"The study's queue against sudden death, two workers and other people's settings, in a file and on a PostgreSQL server."
import os, shutil, signal, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import free_port

pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

@pytest.fixture(scope="module")
def root(tmp_path_factory):
    from gtsrb.signs import synthetic_dataset
    return synthetic_dataset(tmp_path_factory.mktemp("signs") / "data", 430)

def start(root, out, trials, *more):
    "A worker in a process of its own."
    call = ["study", "run", "--root", root, "--out", out, "--trials", trials, "--epochs", 3, "--fold", 0, "--beat", 1,
            "--set", "folds=2", "--set", "policy=float32", *more]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", "from gtsrb.cli import main; main()", *map(str, call)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

def trials(out, storage=None):
    "What the database says, seen from outside; none before there is one."
    from gtsrb.study import open_study
    return open_study(storage or f"sqlite:///{out}/study.db", "search", beat=1).get_trials() if storage or (out / "study.db").exists() else []

def wait_for(condition, process, seconds=300):
    "Poll until it is true, the process still alive."
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)

def test_killed_in_the_middle_and_started_again(root, tmp_path):
    from optuna.trial import TrialState as S
    out = tmp_path / "study"
    worker = start(root, out, 3)
    second = lambda: next((t for t in trials(out)[1:2] if t.state == S.RUNNING and len(t.intermediate_values) >= 1), None)
    wait_for(second, worker)
    worker.send_signal(signal.SIGKILL); worker.wait()
    before = trials(out)
    assert [t.state for t in before] == [S.COMPLETE, S.RUNNING]
    worker = start(root, out, 3)
    err = worker.communicate(timeout=600)[1]
    assert worker.returncode == 0, err
    after = trials(out)
    assert after[0] == before[0]                                                      # what was finished is untouched
    assert after[1].state == S.FAIL and after[1].params == before[1].params          # what was interrupted is marked …
    again = [t for t in after if t.params == before[1].params and t.state.is_finished() and t.state != S.FAIL]
    assert len(again) == 1 and again[0].user_attrs["seconds"] > 0                     # … and done once
    assert again[0].intermediate_values.items() >= before[1].intermediate_values.items()    # from where it had stopped
    good = [t for t in after if t.state in (S.COMPLETE, S.PRUNED)]
    assert len(good) == 3 and len({str(sorted(t.params.items())) for t in good}) == 3 and len(after) == 4

def test_two_workers_share_one_study(root, tmp_path):
    from optuna.trial import TrialState as S
    out = tmp_path / "study"
    first = start(root, out, 4)
    wait_for(lambda: trials(out), first)
    both = [first, start(root, out, 4)]
    for w in both:
        err = w.communicate(timeout=600)[1]
        assert w.returncode == 0, err
    done = trials(out)
    assert [t.state in (S.COMPLETE, S.PRUNED) for t in done] == [True] * len(done) and len(done) in (4, 5)
    assert len({str(sorted(t.params.items())) for t in done}) == len(done)

# ---- PostgreSQL

def programs():
    "The folder of PostgreSQL's server programs, newest first; Debian keeps them out of PATH."
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: -float(p.parts[-3])) or [Path(p) for p in [shutil.which("initdb")] if p]
    return found[0].parent if found else None

@contextmanager
def postgres():
    "A PostgreSQL server of its own in a temporary folder, on a free port of this machine; its address."
    if not (bin := programs()): pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg")
    who, as_user = "signs", {}
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="gtsrb-pg-"))                       # not under root's own folder, which others may not enter
    if os.getuid() == 0:                                                                  # initdb refuses root
        import pwd
        user = next(u for u in pwd.getpwall() if u.pw_name in ("postgres", "nobody"))
        as_user = dict(user=user.pw_uid, group=user.pw_gid, extra_groups=[]); os.chown(folder, user.pw_uid, user.pw_gid)
    run = dict(cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **as_user)
    try:
        subprocess.run([bin / "initdb", "-A", "trust", "-N", "-U", who, "-D", folder / "data"], check=True, **run)
        port = free_port()
        server = subprocess.Popen([bin / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"], **run)
        try: yield wait_until_open(f"postgresql://{who}@127.0.0.1:{port}/postgres", server)
        finally: server.send_signal(signal.SIGINT); server.wait(30)
    finally: shutil.rmtree(folder, ignore_errors=True)

def wait_until_open(address, server):
    import psycopg
    until = time.monotonic() + 30
    while True:
        try: psycopg.connect(address).close(); return address
        except psycopg.OperationalError: assert server.poll() is None and time.monotonic() < until; time.sleep(0.1)

@pytest.fixture(scope="module")
def address():
    with postgres() as found: yield found

def test_many_workers_open_an_empty_database_at_once(address):
    import psycopg
    with psycopg.connect(address, autocommit=True) as c: c.execute("CREATE DATABASE fresh")
    code = "import sys; from gtsrb.study import open_study; s = open_study(sys.argv[1], 'search'); s.set_user_attr('plan', {'epochs': 3}); print(len(s.trials))"
    workers = [subprocess.Popen([sys.executable, "-c", code, f"{scheme}:" + address.replace("/postgres", "/fresh").partition(":")[2]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for scheme in ("postgresql", "postgresql+psycopg", "postgres", "postgresql")]
    for w in workers:
        out, err = w.communicate(timeout=120)
        assert (w.returncode, out) == (0, "0\n"), err[-2000:]

def test_two_workers_on_postgresql_one_killed(root, address, tmp_path):
    "Whoever survives does what the dead one left: nothing lost, nothing twice."
    import psycopg
    from optuna.trial import TrialState as S
    with psycopg.connect(address, autocommit=True) as c: c.execute("CREATE DATABASE killed")
    out, storage = tmp_path / "study", address.replace("/postgres", "/killed")
    workers = [start(root, out, 4, "--storage", storage, "--epochs", 15) for _ in range(2)]   # long enough to be met in the middle
    running = lambda: [t for t in trials(out, storage) if t.state == S.RUNNING and t.intermediate_values]
    wait_for(lambda: len(running()) == 2, workers[0])                                      # both are in the middle of one
    workers[0].send_signal(signal.SIGKILL); workers[0].wait()
    err = workers[1].communicate(timeout=900)[1]
    assert workers[1].returncode == 0, err
    done = trials(out, storage)
    dead = [t for t in done if t.state == S.FAIL]
    good = [t for t in done if t.state in (S.COMPLETE, S.PRUNED)]
    assert len(dead) == 1 and len(good) + 1 == len(done) and len(good) in (4, 5)
    assert len({str(sorted(t.params.items())) for t in good}) == len(good)                 # nothing twice
    again, = (t for t in good if t.params == dead[0].params)                               # nothing lost
    assert again.intermediate_values.items() >= dead[0].intermediate_values.items()        # from where it had stopped

def test_a_search_begins_at_the_first_recipe(monkeypatch, tmp_path):
    "The study of the notebook is what the command does, whatever TrainConfig's defaults are by now."
    import dataclasses
    from typer.testing import CliRunner
    from gtsrb import study
    from gtsrb.cli import app
    asked = []
    monkeypatch.setattr(study, "search", lambda *a: asked.append(a[5]))
    done = CliRunner().invoke(app, ["study", "run", "--out", str(tmp_path), "--set", "policy=float32"])
    assert done.exit_code == 0 and asked == [dataclasses.replace(study.FIRST, policy="float32")]

def test_comparison_goes_on_from_its_tables(root, tmp_path):
    "What another machine finished and committed is not run again on this one."
    import pandas as pd
    from gtsrb.study import CLAIMS
    epochs = CLAIMS["quarter"]["epochs"]
    tables = {n: tmp_path / f"tables/{n}.csv" for n in ("runs", "curves", "tracks")}; tables["runs"].parent.mkdir()
    theirs = dict(runs=dict(fold=0, epochs=epochs, nll=0.5, error=0.1), curves=dict(epoch=epochs, loss=0.5), tracks={"class": 1, "track": 2, "images": 30, "nll": 0.5})
    for n, row in theirs.items(): pd.DataFrame([dict(setting="quarter", seed=s) | row for s in (1, 2)]).to_csv(tables[n], index=False)
    done = subprocess.run([sys.executable, "-c", "from gtsrb.cli import main; main()", "study", "compare", "claims", "--only", "quarter", "--root", root, "--out", tmp_path / "here", "--results", tmp_path / "tables"],
                          capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0 and "quarter" in done.stdout, done.stderr[-2000:]
    assert [f.name for f in (tmp_path / "here").iterdir() if f.is_dir()] == ["quarter-3"]
    runs, curves, tracks = (pd.read_csv(f) for f in tables.values())
    assert runs["seed"].tolist() == [1, 2, 3] and runs["nll"].tolist()[:2] == [0.5, 0.5] and len(curves) == 2 + epochs and tracks["seed"].nunique() == 3
