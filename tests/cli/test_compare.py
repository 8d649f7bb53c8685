"""``neurarium compare`` as a person uses it."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from neurarium.lab.engine import store_path
from neurarium.lab.source import read_source
from neurarium.lab.store import Store
from neurarium.studies.compare import compare


def test_compare_on_a_users_table_and_model(cli, tmp_path, monkeypatch):
    package = tmp_path / "mypkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "def build(in_features, out_features):\n"
        "    return nn.Sequential(nn.Linear(in_features, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),\n"
        "                         nn.Linear(16, out_features))\n"
    )
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=False)
    rows = ["a,b,c,kind"]
    rows += [f"{x[0]},{x[6]},{x[9]},{data.target_names[y]}" for x, y in zip(data.data, data.target, strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("compare", "--data", "mine.csv", "--target", "kind", "--model", "mypkg.nets:build", "--jobs", "0")
    words += ("--rules", "backprop,dfa", "--epochs", "30", "--batch-size", "8", "--json", "--report", tmp_path / "site")
    code, out, err = cli(*words)
    assert code == 0, err
    arms = json.loads(out)["arms"]
    assert arms["backprop"]["accuracy"]["mean"] > 0.75
    assert arms["dfa"]["parameters"]["mean"] >= arms["backprop"]["parameters"]["mean"]
    assert (tmp_path / "site" / "index.html").exists()


def test_compare_strategies_on_a_stream(cli):
    words = (
        "compare",
        "--stream",
        "split-digits",
        "--strategies",
        "finetune,replay,streaming-lda,visual-memory,joint",
        "--jobs",
        "0",
    )
    code, out, err = cli(*words, "--jobs", "0", "--seeds", "2", "--epochs", "10", "--batch-size", "16", "--json")
    assert code == 0, err
    arms = json.loads(out)["arms"]
    assert arms["finetune"]["forgetting"]["mean"] > 0.5
    assert arms["replay"]["accuracy"]["mean"] > arms["finetune"]["accuracy"]["mean"] + 0.3
    assert arms["joint"]["accuracy"]["mean"] > arms["finetune"]["accuracy"]["mean"]
    assert arms["streaming-lda"]["extra_bytes"]["mean"] > 8 * 64 * 64
    assert arms["visual-memory"]["extra_bytes"]["mean"] > 1_000 * 64 * 4
    assert arms["streaming-lda"]["accuracy"]["mean"] > 0.85  # of the inputs, not of an untrained network
    assert arms["replay"]["extra_bytes"]["mean"] > 500 * 64 * 4 > arms["finetune"]["extra_bytes"]["mean"] == 0


def test_a_comparison_shows_everything_that_was_measured(cli):
    words = ("compare", "--stream", "split-digits", "--strategies", "visual-memory", "--examples", "200", "--jobs", "0")
    code, out, err = cli(*words, "--seeds", "1", "--epochs", "3")
    assert code == 0, err
    assert "extra bytes" in out
    assert f"{200 * 64 * 4 + 200 * 8:,}" in out  # 200 images and labels, each remembered once in whatever many passes


@pytest.fixture
def plainnet(tmp_path, monkeypatch):
    """A network of the user's without any layer that rules could cut at."""
    (tmp_path / "plainnet.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, inputs, outputs):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(0.01 * torch.randn(inputs, outputs))\n"
        "    def forward(self, x):\n"
        "        return x @ self.weight\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "plainnet:Net"


def test_of_all_rules_those_that_do_not_fit_are_left_out_and_named(cli, plainnet):
    words = ("compare", "--data", "iris", "--model", plainnet, "--epochs", "1", "--seeds", "1", "--jobs", "0")
    code, out, err = cli(*words, "--rules", "all")
    assert code == 0, err
    assert "left out mono-forward: " in out
    code, _, err = cli(*words, "--rules", "mono-forward")
    assert code == 2
    assert "mono-forward does not fit" in err


def test_with_every_strategy_left_out_a_stream_is_refused(cli, tmp_path, monkeypatch):
    (tmp_path / "bare.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, inputs, outputs):\n"
        "        super().__init__()\n"
        "        self.register_buffer('weight', torch.randn(inputs, outputs))\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1) @ self.weight\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("compare", "--stream", "split-digits", "--model", "bare:Net", "--jobs", "0")
    code, _, err = cli(*words)
    assert code == 2
    assert "no strategy takes this model: the network has no parameter to train" in err


def test_what_ends_in_a_smaller_network(cli):
    words = ("compare", "--data", "digits", "--compressors", "backprop,teacher-class,lottery-ticket", "--jobs", "0")
    code, out, err = cli(*words, "--seeds", "1", "--steps", "300", "--json")
    assert code == 0, err
    found = json.loads(out)
    arms = found["arms"]
    for arm in ("teacher-class", "lottery-ticket"):
        assert arms[arm]["nonzero"]["mean"] < 0.5 * arms["backprop"]["nonzero"]["mean"]
        assert arms[arm]["bytes"]["mean"] < 0.6 * arms["backprop"]["bytes"]["mean"]
        assert arms[arm]["accuracy"]["mean"] > arms["backprop"]["accuracy"]["mean"] - 0.15
    assert set(found["pareto"]["bytes"]) <= set(arms)


def test_an_image_network_of_the_users_gets_a_channel_dimension(cli, tmp_path, monkeypatch):
    (tmp_path / "convnet.py").write_text(
        "from torch import nn\n"
        "def build(inputs, outputs):\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(4 * 6 * 6, outputs))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("compare", "--data", "digits", "--model", "convnet:build", "--ideas", "backprop", "--seeds", "1")
    # 65 examples in batches of 16 leave one over, which batch normalisation could not take
    code, out, err = cli(*words, "--examples", "65", "--batch-size", "16", "--steps", "100", "--jobs", "0", "--json")
    assert code == 0, err
    assert json.loads(out)["arms"]["backprop"]["accuracy"]["mean"] > 0.5


def test_a_regression_on_few_rows_is_near_a_linear_models():
    found = compare("diabetes", ideas=["backprop", "linear"], seeds=1, jobs=0)
    scores = {arm: found.finding.arms[arm].metrics["r2"].mean for arm in found.finding.arms}
    assert scores["backprop"] > 0.40
    assert scores["backprop"] > scores["linear"] - 0.1
    assert found.finding.arms["linear"].metrics["rmse"].mean > 30  # in the target's own units
    assert found.metric == "r2"
    assert "linear" in found.pareto("bytes")


def test_tuning_keeps_defaults_beside_the_best_draw_and_never_scores_a_test_example(monkeypatch):
    from neurarium.recipes import Problem

    opened = []
    real = Problem.test_part
    monkeypatch.setattr(Problem, "test_part", lambda self, split: opened.append(split.name) or real(self, split))
    words = {"ideas": ["linear", "neighbours"], "tune": 5, "seeds": 1, "jobs": 0}
    found = compare("digits", **words)
    assert len(opened) == len(found.finding.arms)
    for arm, draw in found.tuned.items():
        assert draw.draws == 5
        assert (f"{arm} (tuned)" in found.finding.arms) == draw.changed
    assert compare("digits", **words).tuned == found.tuned
    assert len(opened) == len(found.finding.arms)  # the second time everything was in the store


def test_a_budget_drops_ideas_in_rounds_and_says_when(cli):
    words = ("compare", "--data", "iris", "--budget", "3s", "--seeds", "1", "--jobs", "0", "--json")
    code, out, err = cli(*words, "--ideas", "backprop,linear,dfa,shallow,pepita,nearest-mean,visual-memory,dee")
    assert code == 0, err
    found = json.loads(out)
    assert {"backprop", "linear"} < set(found["arms"])
    assert len(found["arms"]) == 2 + 4
    assert len(found["dropped"]) == 2
    assert all(when.startswith("round 1 of 1, ") for when in found["dropped"].values())


def test_changed_data_and_changed_helpers_of_the_users_are_new_trials(cli, tmp_path, monkeypatch):
    for name, text in {
        "helper.py": "WIDTH = 4\n",
        "nets.py": "from torch import nn\nfrom netpkg.helper import WIDTH\n\n"
        "def build(inputs, outputs):\n"
        "    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))\n",
        "__init__.py": "",
    }.items():
        (tmp_path / "netpkg").mkdir(exist_ok=True)
        (tmp_path / "netpkg" / name).write_text(text)
    rows = ["a,b,y", *(f"{i % 7},{i % 5},{'yes' if i % 7 > i % 5 else 'no'}" for i in range(120))]
    (tmp_path / "t.csv").write_text("\n".join(rows))

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run():
        for name in [name for name in sys.modules if name.startswith("netpkg")]:
            del sys.modules[name]  # as in a new process
        found = compare("t.csv", "y", "netpkg.nets:build", "backprop", steps=20, seeds=1, jobs=0)
        return found.finding.arms["backprop"].metrics["parameters"].mean, len(list(Store(store_path()).all()))

    parameters, stored = run()
    assert stored == 1
    assert run() == (parameters, 1)
    (tmp_path / "netpkg" / "helper.py").write_text("WIDTH = 10\n")
    importlib.invalidate_caches()
    read_source.cache_clear()  # as in a new process
    more, stored = run()
    assert more > parameters
    assert stored == 2
    (tmp_path / "t.csv").write_text("\n".join([rows[0], *rows[60:]]))
    assert run() == (more, 3)


@pytest.mark.parametrize("search", [("--tune", "3"), ("--budget", "4s")], ids=["tune", "budget"])
def test_killed_and_resumed_it_ends_in_the_same_table(tmp_path, search):
    words = [
        "compare",
        "--data",
        "iris",
        "--ideas",
        "linear,neighbours,nearest-mean,visual-memory,dee,shallow,backprop",
    ]
    words += [*search, "--steps", "60", "--seeds", "1", "--jobs", "0", "--json"]

    def start(home):
        environment = {**os.environ, "NEURARIUM_HOME": str(tmp_path / home)}
        return subprocess.Popen(
            [sys.executable, "-m", "neurarium", *words], env=environment, stdout=subprocess.PIPE, text=True
        )

    def table(process):
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        found = json.loads(out)
        scores = {arm: metrics["accuracy"]["mean"] for arm, metrics in found["arms"].items()}
        return scores, found["dropped"], found["tuned"]

    undisturbed = start("a")
    killed = start("b")
    path = tmp_path / "b" / "store.sqlite"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (path.exists() and len(list(Store(path).all())) >= 3):
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert len(list(Store(path).all())) >= 3
    assert table(start("b")) == table(undisturbed)


def test_a_recipe_of_the_users_own_is_an_arm_like_others(cli, tmp_path, monkeypatch):
    (tmp_path / "myideas.py").write_text(
        "from neurarium.recipes import GradientRecipe, Plan, Real, Traits\n"
        "class Plain(GradientRecipe):\n"
        '    """Plain: nothing differs."""\n'
        "    slug = 'plain'\n"
        "    traits = Traits('rule')\n"
        "    knobs = {'learning_rate': Real(1e-4, 1e-2, 1e-3, log=True)}\n"
        "    def plan(self, problem, knobs, progress):\n"
        "        return Plan(problem.make_model(progress.seed))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("compare", "--data", "iris", "--seeds", "1", "--steps", "40", "--jobs", "0", "--json", "--ideas")
    code, out, err = cli(*words, "backprop,myideas:Plain")
    assert code == 0, err
    arms = json.loads(out)["arms"]
    assert arms["myideas:Plain"]["accuracy"] == arms["backprop"]["accuracy"]
    for wrong, said in (("myideas:Plane", "derived from"), ("nowhere:X", "nowhere")):
        code, _, err = cli(*words, wrong)
        assert code == 2
        assert said in err


def test_ideas_are_listed_with_a_sentence_each(cli):
    code, out, _ = cli("ideas", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"backprop", "linear", "trees", "neighbours", "dfa", "boosting"} <= {row["idea"] for row in rows}
    assert all(row["what it does"].endswith(".") for row in rows)
