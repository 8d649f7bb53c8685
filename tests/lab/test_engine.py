"""The engine: same numbers everywhere, nothing finished is lost, failures are contained."""

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from neurarium import lab
from neurarium.lab import Claim, value
from neurarium.lab.errors import RequestError, StudyError, TrialFailed
from neurarium.lab.executors import Inline, Processes, RayCluster
from neurarium.lab.export import export_mlflow
from neurarium.lab.pages import stored_finding
from neurarium.lab.registry import find
from neurarium.lab.runner import Job, Request, run_studies, run_study
from neurarium.lab.store import Store
from neurarium.lab.trial import Outcome, Task

EXAMPLE = Path(__file__).with_name("example_study.py")


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def run(store, executor=None, study=None, **request):
    entry = find(str(EXAMPLE))
    return run_study(
        entry, study or entry.load(), Request(**request), executor=executor or Inline(), store=store
    )  # fmt: skip


def numbers(finding):
    return {
        (arm, seed): (outcome.metrics, outcome.curves)
        for arm, seeds in finding.trials.items()
        for seed, outcome in seeds.items()
    }


def test_a_run_ends_with_a_verdict(store):
    finding = run(store)
    assert [v.outcome for v in finding.verdicts] == ["reproduced"]
    assert len(store.study("example-study")) == 6
    assert finding.trials["long"][0].curves[-1]["step"] == 4


def test_inline_and_processes_give_the_same_bits(store, tmp_path):
    inline = numbers(run(store))
    other = Store(tmp_path / "other.sqlite")
    assert numbers(run(other, Processes(jobs=2))) == inline
    other.close()


def test_ray_gives_the_same_bits_and_survives_a_dead_worker(store, tmp_path):
    ray = pytest.importorskip("ray")
    try:
        cluster = RayCluster(None, retries=0)
        inline = numbers(run(store))
        other = Store(tmp_path / "other.sqlite")
        assert numbers(run(other, cluster)) == inline
        died = run(other, cluster, seeds=1, overrides={"fail": "die"})
        assert len(died.failed) == 2
        assert "Ray worker was lost" in died.failed[0][2].traceback
        assert numbers(run(other, cluster, fresh=True)) == inline
        other.close()
    finally:
        ray.shutdown()


def test_order_and_neighbours_do_not_matter(store):
    alone = run(store, arms=("long",), seeds=1)
    after = run(store, fresh=True, seeds=2)
    assert alone.trials["long"][0].metrics == after.trials["long"][0].metrics


def test_what_is_stored_is_not_run_again(store):
    class Refuses(Inline):
        def run(self, tasks, watch):
            assert not tasks
            yield from ()

    first = run(store)
    assert numbers(run(store, Refuses())) == numbers(first)


def test_more_seeds_while_undecided(store):
    entry = find(str(EXAMPLE))
    study = entry.load()
    hard = replace(study, claims=[replace(study.claims[0], predicate=study.claims[0].predicate.quantity > 7.9)])
    finding = run(store, study=hard)
    assert len(finding.trials["long"]) > 3 or finding.verdicts[0].outcome != "undecided"
    assert len(run(store, study=hard, seeds=4).trials["long"]) == 4


def test_smoke_gives_no_verdict(store):
    finding = run(store, scale="smoke")
    assert finding.verdicts == [None]
    assert {len(seeds) for seeds in finding.trials.values()} == {1}


@pytest.mark.parametrize("executor", [Inline(), Processes(jobs=2)], ids=["inline", "processes"])
def test_a_failing_trial_is_recorded_and_run_again_next_time(store, executor):
    finding = run(store, executor, overrides={"fail": "raise"}, seeds=2)
    assert len(finding.failed) == 4
    assert "told to fail" in finding.failed[0][2].traceback
    assert {row.outcome.status for row in store.study("example-study")} == {"failed"}
    again = run(store, executor, overrides={"fail": "raise"}, seeds=1)
    assert len(again.failed) == 2


def test_a_killed_worker_is_a_failed_trial(store):
    finding = run(store, Processes(jobs=2), overrides={"fail": "die"}, seeds=1)
    assert "SIGKILL" in finding.failed[0][2].traceback


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"arms": ("shrot",)}, "did you mean 'short'"),
        ({"scale": "smal"}, "did you mean 'small'"),
        ({"overrides": {"steps": "3"}}, "did you mean 'step'"),
    ],
)
def test_wrong_requests(store, request_, sentence):
    with pytest.raises(RequestError, match=sentence):
        run(store, **request_)
    assert store.study("example-study") == []


def test_a_store_that_is_no_database(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database, but long enough to look like a file" * 40)
    with pytest.raises(RequestError, match="move it away"):
        Store(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_store_of_the_future(tmp_path):
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(RequestError, match="newer neurarium"):
        Store(tmp_path / "s.sqlite")


def stored(home):
    if not (home / "store.sqlite").exists():
        return 0
    with contextlib.closing(sqlite3.connect(home / "store.sqlite", timeout=60)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
        except sqlite3.OperationalError:  # the table is not there yet
            return 0


def test_kill_9_at_random_moments_loses_nothing_and_repeats_nothing(tmp_path, store):
    home = tmp_path / "home"
    command = [
        sys.executable,
        "-m",
        "neurarium",
        "run",
        str(EXAMPLE),
        "--seeds",
        "6",
        "--set",
        "wait=0.03",
        "--jobs",
        "2",
    ]
    environment = {**os.environ, "NEURARIUM_HOME": str(home)}
    finished: dict[str, float] = {}
    for enough in (1, 4, 7):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while stored(home) < enough and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (home / "store.sqlite").exists():
            survivor = Store(home / "store.sqlite")
            now = {f"{row.arm}-{row.seed}": row.outcome.finished for row in survivor.all()}
            survivor.close()
            assert finished.items() <= now.items()  # what was there is there, and was not run a second time
            finished = now
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert len(finished) >= 7
    resumed = Store(home / "store.sqlite")
    rows = list(resumed.all())
    resumed.close()
    assert sorted((row.arm, row.seed) for row in rows) == sorted((a, s) for a in ("short", "long") for s in range(6))
    assert finished.items() <= {f"{row.arm}-{row.seed}": row.outcome.finished for row in rows}.items()
    undisturbed = run(store, seeds=6, overrides={"wait": "0.03"})
    assert {(r.arm, r.seed): r.outcome.metrics for r in rows} == {
        key: metrics for key, (metrics, _) in numbers(undisturbed).items()
    }


def test_studies_share_one_queue_and_later_seeds_come_first(store):
    """A study's extra seeds do not wait for the others, nor the others for the last trial of a study."""
    entry = find(str(EXAMPLE))
    study = entry.load()
    undecidable = replace(study, seeds=(2, 4), claims=[Claim("never", "", value("distance", "short") > 20.44)])
    order = []

    class Watching(Inline):
        def run(self, tasks, watch):
            for task, outcome in super().run(tasks, watch):
                order.append((task.study, task.seed))
                yield task, outcome

    second = replace(entry, slug="second")
    jobs = [Job(entry, undecidable), Job(second, study)]
    found = list(run_studies(jobs, Request(), executor=Watching(), store=store))
    assert [finding.entry.slug for finding in found] == ["example-study", "second"]
    assert len(found[0].arms["short"].seeds) == 4
    assert {study for study, _ in order[:6]} == {"example-study"}  # two arms, two seeds; then two more of one arm
    assert [seed for _, seed in order[:6]] == [0, 0, 1, 1, 2, 3]
    assert [study for study, _ in order[6:]] == ["second"] * 6


def test_a_claim_on_a_metric_that_is_not_there_is_the_studys_fault(store):
    entry = find(str(EXAMPLE))
    wrong = replace(entry.load(), claims=[Claim("wrong", "", value("speed", "short") > 0.0)])
    jobs = [Job(entry, wrong), Job(replace(entry, slug="sound"), entry.load())]
    found = []
    with pytest.raises(StudyError, match="its claim 'wrong' needs the metric 'speed'"):
        found.extend(run_studies(jobs, Request(seeds=2), executor=Inline(), store=store) or ())
    assert len(store.study("sound")) == 4  # the other study was run all the same
    assert not issubclass(StudyError, RequestError)


def test_a_page_never_mixes_devices_threads_or_codes(store):
    entry = find(str(EXAMPLE))
    finding = run(store, seeds=3)
    settings = {arm: dict(found.settings) for arm, found in finding.arms.items()}

    def put(seed, distance, when, **changes):
        for arm in ("short", "long"):
            task = Task(entry.slug, str(EXAMPLE), "", arm, seed, "small", settings[arm],
                        **{"fingerprint": finding.fingerprint, **changes})  # fmt: skip
            store.put(task, Outcome("done", {"distance": distance}, finished=when))

    later = time.time() + 10
    put(3, 1e6, later, device="cuda:0")
    put(4, 2e6, later + 1, device="cuda:0")
    found = stored_finding(store, entry)
    assert (found.device, found.threads, found.arms["long"].seeds) == ("cuda:0", 1, (3, 4))
    put(5, 1.0, later + 2, threads=4)
    assert stored_finding(store, entry).arms["long"].seeds == (5,)
    put(6, 1.0, later + 3, fingerprint="other")
    assert stored_finding(store, entry).arms["long"].seeds == (6,)
    row = store.study(entry.slug)[-1]
    assert (row.device, row.threads) == ("cpu", 1)


def test_a_study_runs_from_a_script_without_a_guard(tmp_path):
    """Workers do not import the script that started them, so it needs no ``if __name__ == "__main__"``."""
    script = tmp_path / "script.py"
    script.write_text(
        "from neurarium import lab\n"
        f"finding = lab.run({str(EXAMPLE)!r}, seeds=2, jobs=2, settings={{'count': 3}})\n"
        "print(finding.verdicts[0].outcome, finding.arms['long'].settings['count'])\n"
    )
    environment = {**os.environ, "NEURARIUM_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0].endswith(" 3")
    with pytest.raises(TrialFailed, match="told to fail"):
        lab.run(str(EXAMPLE), seeds=1, jobs=0, settings={"fail": "raise"})


def test_mlflow_gets_each_trial_once_under_names_that_it_takes(store, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    finding = run(store, seeds=2)
    task = Task("example-study", str(EXAMPLE), "", "long", 9, "small", {}, finding.fingerprint)
    store.put(task, Outcome("done", {"top@5": 0.5, "lost": math.nan}, finished=1.0))
    assert export_mlflow(store) == 5
    assert export_mlflow(store) == 0
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("neurarium/example-study").experiment_id])
    assert len(runs) == 5
    assert {"top_5", "distance", "wall_seconds"} == {name for logged in runs for name in logged.data.metrics}
