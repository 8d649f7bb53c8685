"""The commands as a person uses them, and everything a person can get wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurarium.lab.store import Store

EXAMPLE = str(Path(__file__).parents[1] / "lab" / "example_study.py")


def stored():
    path = Path(os.environ["NEURARIUM_HOME"]) / "store.sqlite"
    return list(Store(path).all()) if path.exists() else []


def test_run_prints_tables_and_stores(cli):
    code, out, _ = cli("run", EXAMPLE, "--jobs", "0")
    assert code == 0
    assert "reproduced" in out
    assert "distance" in out
    assert len(stored()) == 6


def test_arms_are_named_together_or_one_by_one(cli):
    assert cli("run", EXAMPLE, "--jobs", "0", "--seeds", "1", "--arm", "short,long")[0] == 0
    assert {row.arm for row in stored()} == {"short", "long"}
    assert cli("run", EXAMPLE, "--jobs", "0", "--seeds", "2", "--arm", "short", "--arm", "long")[0] == 0
    assert len(stored()) == 4


def test_run_json_is_one_object_with_the_promised_keys(cli):
    code, out, err = cli("run", EXAMPLE, "--jobs", "0", "--json", "--seeds", "2")
    assert code == 0
    assert err == ""
    content = json.loads(out)
    assert {"study", "scale", "arms", "claims", "seconds"} <= content.keys()
    assert content["arms"]["long"]["distance"].keys() == {"mean", "low", "high", "n"}
    assert {"text", "source", "verdict", "estimate", "low", "high", "margin"} <= content["claims"][0].keys()


def test_failed_trials_end_with_1_and_the_reason(cli):
    code, _, err = cli("run", EXAMPLE, "--jobs", "0", "--seeds", "1", "--set", "fail=raise")
    assert code == 1
    assert "RuntimeError: this trial was told to fail" in err
    assert len(stored()) == 2


def test_a_result_is_saved_where_it_is_told(cli, tmp_path):
    code, _, err = cli("run", EXAMPLE, "--jobs", "0", "--save-to", tmp_path / "kept")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "example-study.curves.json.gz", "example-study.json"
    ]  # fmt: skip
    content = json.loads((tmp_path / "kept" / "example-study.json").read_text())
    assert (content["device"], content["threads"]) == ("cpu", 1)


def test_a_study_at_fault_is_not_the_users_fault(cli, tmp_path):
    text = Path(EXAMPLE).read_text().replace('difference("distance"', 'difference("speed"')
    (tmp_path / "wrong.py").write_text(text)
    code, _, err = cli("run", tmp_path / "wrong.py", "--jobs", "0", "--seeds", "1")
    assert code == 3
    assert err.endswith("needs the metric 'speed', which the trial of long or short does not return\n")


def test_list_filters_and_has_the_promised_keys(cli):
    code, out, _ = cli("list", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"slug", "title", "room", "year", "arxiv", "verdict"} == rows[0].keys()
    assert {"ewc", "dfa", "rezero", "lottery-ticket", "linear-path", "peaky-ctc"} <= {row["slug"] for row in rows}
    _, out, _ = cli("list", "catastrophic", "--room", "continual", "--json")
    assert [row["slug"] for row in json.loads(out)] == ["ewc"]
    assert "no study matches" in cli("list", "zzzz")[1]


def test_show_tells_what_and_where(cli):
    code, out, _ = cli("show", "ewc", "--json")
    content = json.loads(out)
    assert code == 0
    assert "neurarium/continual/regularization/_ewc.py" in content["components"]
    assert content["claims"]
    assert "Kirkpatrick" in cli("show", "ewc")[1]


def test_export_gives_tables(cli, tmp_path):
    cli("run", EXAMPLE, "--jobs", "0", "--seeds", "2")
    import pyarrow.csv
    import pyarrow.parquet

    code, out, _ = cli("export", tmp_path / "t.parquet")
    assert (code, out) == (0, f"4 rows in {tmp_path / 't.parquet'}\n")
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert {"study", "arm", "seed", "metric.distance", "setting.step", "wall_seconds"} <= set(table.column_names)
    cli("export", tmp_path / "c.csv", "--curves")
    assert pyarrow.csv.read_csv(tmp_path / "c.csv").num_rows == 4 * 5


def test_compress_a_users_trained_model_and_load_it_in_plain_torch(cli, tmp_path, monkeypatch):
    import torch
    from torch import nn

    (tmp_path / "smallnet.py").write_text(
        "from torch import nn\n"
        "def build(inputs, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(),\n"
        "                         nn.Linear(32, outputs))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )  # fmt: skip
    torch.save(net.state_dict(), tmp_path / "model.pt")
    words = ("compress", "--data", "digits", "--model", "smallnet:build", "--json")
    made = ("--out", tmp_path / "small.pt2", "--method", "iterative-magnitude-pruning")
    code, out, err = cli(*words, tmp_path / "model.pt", *made)
    assert code == 0, err
    found = json.loads(out)
    assert found["before"]["accuracy"] < 0.3  # the weights given, not trained ones
    assert found["after"]["nonzero"] < found["before"]["nonzero"]
    loaded = torch.export.load(tmp_path / "small.pt2").module()
    assert loaded(torch.randn(5, 1, 8, 8)).shape == (5, 10)
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name, said in (("other.pt", "no state_dict"), ("text.pt", "or is damaged"), ("none.pt", "no file")):
        code, _, err = cli(*words, tmp_path / name, "--out", tmp_path / "b.pt2")
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
    assert not list(tmp_path.glob("*b.pt2*"))


def test_help_and_start_up():
    command = [sys.executable, "-m", "neurarium", "run", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Examples" in done.stdout
    code = "import sys, neurarium, neurarium.cli.app; assert 'torch' not in sys.modules, 'the command line loads torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ctrl_c_keeps_what_is_done(tmp_path):
    import signal
    import time

    environment = {**os.environ, "NEURARIUM_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "neurarium", "run", EXAMPLE, "--seeds", "50", "--set", "wait=0.2", "--jobs", "2"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        path = tmp_path / "home" / "store.sqlite"
        if path.exists() and len(list(Store(path).all())) >= 2:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "what was finished is kept" in err
    assert "Traceback" not in err
    assert len(list(Store(path).all())) >= 2


def bad_requests():
    """(words, what the sentence must name)."""
    yield from [
        (["run"], "--all"),
        (["run", "ewc", "--all"], "--all"),
        (["run", "ewc", "--stale"], "--stale"),
        (["run", "--all", "--stale"], "--stale"),
        (["run", "ewcc"], "ewc"),
        (["run", "EWC"], "EWC"),
        (["run", ""], "study"),
        (["run", "no/such/file.py"], "no/such/file.py"),
        (["run", "ewc", "dfaa"], "dfaa"),
        (["run", "ewc", "--scale", "large"], "large"),
        (["run", "ewc", "--scale", ""], "scale"),
        (["run", "ewc", "--seeds", "0"], "seeds"),
        (["run", "ewc", "--seeds", "-3"], "seeds"),
        (["run", "ewc", "--seeds", "two"], "seeds"),
        (["run", "ewc", "--seeds", "1.5"], "seeds"),
        (["run", "ewc", "--jobs", "-1"], "jobs"),
        (["run", "ewc", "--jobs", "many"], "jobs"),
        (["run", "ewc", "--threads", "0"], "threads"),
        (["run", "ewc", "--threads", "-2"], "threads"),
        (["run", "ewc", "--arm", "nobody"], "nobody"),
        (["run", "ewc", "--arm", ""], "arm"),
        (["run", "ewc", "--set", "strength"], "NAME=VALUE"),
        (["run", "ewc", "--set", "=1"], "NAME=VALUE"),
        (["run", "ewc", "--set", "nosuch=1"], "nosuch"),
        (["run", "ewc", "--set", "tasks=many"], "tasks"),
        (["run", "ewc", "--set", "tasks=2.5"], "tasks"),
        (["run", "ewc", "--set", "tasks="], "tasks"),
        (["run", "ewc", "--save", "--scale", "smoke"], "--save"),
        (["run", "ewc", "--save", "--set", "tasks=2"], "--save"),
        (["run", "ewc", "--save", "--arm", "sgd"], "--save"),
        (["run", "ewc", "--save-to", "folder", "--arm", "sgd"], "--save"),
        (["run", "ewc", "--ray", "local", "--jobs", "2"], "--ray"),
        (["run", "ewc", "--device", "abacus"], "abacus"),
        (["run", "ewc", "--device", "cuda:99"], "cuda:99"),
        (["run", "ewc", "--nonsense"], "nonsense"),
        (["runn", "ewc"], "runn"),
        (["show"], "STUDY"),
        (["show", "nobody"], "nobody"),
        (["show", "missing.py"], "missing.py"),
        (["list", "--room", "kitchen"], "kitchen"),
        (["list", "--room", ""], "room"),
        (["list", "--verdict", "maybe"], "maybe"),
        (["export"], "FILE"),
        (["export", "table.xlsx"], "table.xlsx"),
        (["export", "table"], "table"),
        (["export", "no/folder/t.csv"], "folder"),
        (["export", "t.csv"], "nothing to export"),
        (["export", "t.csv", "--study", "ewc"], "ewc"),
        (["data", "list", "--nonsense"], "nonsense"),
        (["data", "shw", "mnist"], "show"),
        (["data", "show"], "NAME"),
        (["data", "fetch"], "NAME"),
        (["data", "show", "mnisst"], "mnist"),
        (["data", "fetch", "mnisst"], "mnist"),
        (["compare"], "data"),
        (["compare", "--data", "nosuchset"], "nosuchset"),
        (["compare", "--data", "no/such.csv", "--target", "y"], "such.csv"),
        (["compare", "--data", "digits", "--rules", "bakprop"], "backprop"),
        (["compare", "--data", "digits", "--rules", ""], "rule"),
        (["compare", "--data", "digits", "--rules", "backprop,,nobody"], "nobody"),
        (["compare", "--data", "digits", "--epochs", "0"], "epochs"),
        (["compare", "--data", "digits", "--examples", "0"], "examples"),
        (["compare", "--data", "digits", "--examples", "9999"], "--examples must be at most 1259"),
        (["compare", "--data", "digits", "--epochs", "-1"], "epochs"),
        (["compare", "--data", "digits", "--epochs", "x"], "epochs"),
        (["compare", "--data", "digits", "--batch-size", "0"], "batch-size"),
        (["compare", "--data", "digits", "--learning-rate", "-1"], "learning-rate"),
        (["compare", "--data", "digits", "--learning-rate", "nan"], "learning-rate"),
        (["compare", "--data", "digits", "--learning-rate", "inf"], "learning-rate"),
        (["compare", "--data", "digits", "--seeds", "0"], "seeds"),
        (["compare", "--data", "digits", "--model", "nets"], "package.module:name"),
        (["compare", "--data", "digits", "--model", "nets:"], "package.module:name"),
        (["compare", "--data", "digits", "--model", "nosuchpkg:build"], "nosuchpkg"),
        (["compare", "--data", "digits", "--model", "math:nosuch"], "nosuch"),
        (["compare", "--data", "digits", "--model", "math:pi"], "math:pi"),
        (["compare", "--data", "digits", "--model", "torch.nn:ReLU"], "torch.nn:ReLU"),
        (["compare", "--data", "digits", "--model", "torch.nn:Linear", "--target", "y"], "target"),
        (["compare", "--data", "digits", "--device", "abacus"], "abacus"),
        (["compare", "--rules", "all"], "--data mnist"),
        (["compare", "--data", "digits", "--stream", "split-mnist"], "leave out --data digits"),
        (["compare", "--data", "digits", "--stream", "splitt"], "split"),
        (["compare", "--data", "digits", "--stream", "split", "--tasks", "3"], "number of classes, 10"),
        (["compare", "--data", "digits", "--stream", "split", "--tasks", "0"], "tasks"),
        (["compare", "--data", "digits", "--stream", "split", "--strategies", "finetun"], "finetune"),
        (["compare", "--data", "digits", "--stream", "split", "--strategies", ","], "strategy"),
        (["compare", "--data", "digits", "--stream", "split", "--strength", "-1"], "strength"),
        (["compare", "--data", "diabetes", "--stream", "permuted"], "classes"),
        (["compare", "--data", "wine", "--stream", "rotated", "--tasks", "2"], "images"),
        (["compare", "--data", "digits", "--compressors", "teacherclass"], "teacher-class"),
        (["compare", "--data", "diabetes", "--compressors", "teacher-class"], "numbers"),
        (["compare", "--data", "digits", "--ideas", "lotery-ticket"], "lottery-ticket"),
        (["compare", "--data", "digits", "--ideas", ","], "idea"),
        (["compare", "--data", "digits", "--tune", "0"], "tune"),
        (["compare", "--data", "digits", "--budget", "soon"], "10m"),
        (["compare", "--data", "digits", "--steps", "0"], "steps"),
        (["compare", "--data", "digits", "--missing", "guess"], "impute"),
        (["compare", "--stream", "split-digits", "--tune", "4"], "ideas"),
        (["compare", "--data", "digits", "--compressors", "all", "--stream", "split"], "exclude"),
        (["compress", "--data", "digits", "--method", "zip"], "method"),
        (["compress", "--data", "digits", "--out", "small.onnx"], ".pt2"),
        (["compress", "--data", "digits", "--out", "no/folder/small.pt2"], "no folder"),
        (["compress", "--data", "diabetes"], "classes"),
        (["compress", "--data", "digits", "--epochs", "0"], "epochs"),
        (["compress", "model.pt"], "data"),
    ]


@pytest.mark.parametrize(
    ("words", "named"), list(bad_requests()), ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_a_wrong_request_gets_one_sentence(cli, words, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    code, out, err = cli(*words)
    assert code == 2, (out, err)
    assert "Traceback" not in err
    assert named.lower() in err.lower()
    assert err.startswith("neurarium: ") or "Usage:" in err
    if err.startswith("neurarium: "):
        assert err.count("\n") == 1, "one sentence"
    assert stored() == []
    assert not list(tmp_path.glob("*.csv"))


BROKEN = {
    "syntax.py": "def broken(:\n",
    "raises.py": "raise RuntimeError('on import')\n",
    "nothing.py": "x = 1\n",
    "nostudy.py": "STUDY = 3\n",
    "imports.py": "import nosuchmodule\n",
    "empty.py": "",
    "binary.py": "\x00\x01\x02",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("command", ["run", "show"])
def test_a_broken_study_file(cli, name, command, tmp_path):
    (tmp_path / name).write_text(BROKEN[name])
    code, _, err = cli(command, tmp_path / name)
    assert code == 2
    assert name in err
    assert err.count("\n") == 1
    assert stored() == []


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
@pytest.mark.parametrize("words", [["run", EXAMPLE], ["export", "t.csv"], ["report"]])
def test_a_corrupt_store_is_left_as_it_is(cli, content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = Path(os.environ["NEURARIUM_HOME"])
    home.mkdir(parents=True)
    (home / "store.sqlite").write_bytes(content)
    code, _, err = cli(*words)
    assert code == 2
    assert "move it away" in err
    assert (home / "store.sqlite").read_bytes() == content


def test_a_home_that_cannot_be_written(cli, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEURARIUM_HOME", str(tmp_path / "file" / "home"))
    code, _, err = cli("run", EXAMPLE)
    assert code == 2
    assert "NEURARIUM_HOME" in err
