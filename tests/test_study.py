"The study's queue against sudden death, two workers and other people's settings."
import os, signal, subprocess, sys, time

import pytest

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

def trials(out):
    "What the database says, seen from outside; none before there is one."
    from gtsrb.study import open_study
    return open_study(f"sqlite:///{out}/study.db", "search", beat=1).get_trials() if (out / "study.db").exists() else []

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
