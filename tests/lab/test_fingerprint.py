"""The fingerprint changes exactly when a definition that a study reaches changes."""

from pathlib import Path

import pytest

from neurarium.lab import fingerprint as module
from neurarium.lab import source
from neurarium.lab.registry import entries

FILES = {
    "__init__.py": "",
    "learning/__init__.py": "import lazy_loader\n",
    "learning/__init__.pyi": "from .one import One as One\nfrom .two import Two as Two\nfrom . import pam as pam\n",
    "learning/one.py": (
        "from neurarium.layers.base import thing\n\nclass One:\n    '''Doc.'''\n    x = thing\n\n"
        "def beside():\n    return 1\n"
    ),
    "learning/two.py": "class Two:\n    y = 2\n",
    "learning/pam/__init__.py": "from neurarium.learning.pam.sums import add\n",
    "learning/pam/sums.py": "def add(a, b):\n    return a + b\n\ndef other():\n    return 0\n",
    "layers/__init__.py": "",
    "layers/base.py": "thing = 1  # a comment\nunused = 2\nTABLE = {}\nTABLE['a'] = 1\nprint('loose')\n",
    "layers/names.py": "def by_name(name):\n    return globals()[name]\n\ndef far():\n    return 1\n",
    "layers/op.py": "def op(): ...\n\n@op.register\ndef _fake():\n    return 1\n",
    "data/__init__.py": "",
    "data/__init__.pyi": "from .loading import load as load\nfrom .arrays import Split as Split\n",
    "data/loading.py": "def load(name):\n    return 1\n",
    "data/arrays.py": "class Split: pass\n",
    "lab/__init__.py": "",
    "lab/__init__.pyi": "from ._run import Run as Run\nfrom .claims import C as C\nfrom .study import Study as Study\n",
    "lab/_run.py": "class Run: pass\n",
    "lab/claims.py": "class C: pass\n",
    "lab/study.py": "class Study: pass\n",
    "studies/__init__.py": "",
    "studies/s.py": """
from neurarium.data import load, Split
from neurarium.lab import C, Run, Study
from neurarium.learning import One, pam
from neurarium.layers.base import TABLE

class Settings:
    rate = 1

def trial(settings, run: Run):
    from neurarium.layers.names import by_name
    from neurarium.layers.op import op
    return One(), pam.add(1, 2), load("x"), Split, TABLE, by_name, op

def drawn():
    return 1

def larger(settings):
    return settings

BASE = Settings()
STUDY = Study(trial=trial, arms={"a": BASE}, scales={"paper": larger}, claims=[C("c", drawn())])
""",
}


def forget():
    for cached in (module._stub, module._file_of, module._leads_to, source.read_source):
        cached.cache_clear()


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A copy in small of the package, whose files a test may change."""
    package = tmp_path / "neurarium"
    for name, text in FILES.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(module, "PACKAGE", package)

    def fingerprint(*roots):
        forget()
        return module.fingerprint(roots or [package / "studies/s.py"])

    forget()
    yield package, fingerprint
    forget()


def test_closure_is_what_is_used(house):
    package, _ = house
    names = {name.removeprefix("neurarium.") for name in module.closure([package / "studies/s.py"])}
    assert names == {
        "studies.s", "learning.one", "learning.pam.sums", "layers.base", "layers.names", "layers.op",
        "data.arrays", "lab._run",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "before", "after", "stale"),
    [
        ("learning/one.py", "x = thing", "x = 2 * thing", True),
        ("learning/one.py", "return 1", "return 2", False),  # beside what is used
        ("layers/base.py", "thing = 1", "thing = 3", True),
        ("layers/base.py", "unused = 2", "unused = 3", False),
        ("layers/base.py", "TABLE['a'] = 1", "TABLE['a'] = 2", True),
        ("layers/base.py", "'loose'", "'other'", True),
        ("layers/names.py", "return 1", "return 2", True),  # looked up at run time
        ("layers/op.py", "return 1", "return 2", True),  # a decorator that changes what is used
        ("learning/pam/sums.py", "a + b", "b + a", True),
        ("learning/pam/sums.py", "return 0", "return 1", False),
        ("lab/_run.py", "pass", "x = 1", True),
        ("learning/two.py", "y = 2", "y = 3", False),
        ("lab/claims.py", "pass", "x = 1", False),
        ("data/loading.py", "return 1", "return 2", False),  # known by the contents of what it loads
        ("data/arrays.py", "pass", "x = 1", True),
        ("studies/s.py", "rate = 1", "rate = 2", True),
        ("studies/s.py", "def drawn():\n    return 1", "def drawn():\n    return 2", False),  # a claim's
        ("studies/s.py", "return settings", "return 1", False),  # settings are in a trial's identity
        ("studies/s.py", "pam.add(1, 2)", "pam.add(1, 3)", True),
        ("learning/one.py", "Doc.", "Better words.", False),
        ("layers/base.py", "# a comment", "# another", False),
        ("learning/__init__.pyi", "from .two", "# new\nfrom .two", False),
    ],
)
def test_stale_exactly_when_what_is_reached_changed(house, file, before, after, stale):
    package, fingerprint = house
    first = fingerprint()
    text = (package / file).read_text()
    assert before in text
    (package / file).write_text(text.replace(before, after))
    assert (fingerprint() != first) is stale


def test_moving_a_file_makes_nothing_stale(house):
    package, fingerprint = house
    first = fingerprint()
    family = package / "learning/family"
    family.mkdir()
    (family / "__init__.py").write_text('"""A family."""\n')
    (package / "learning/one.py").rename(family / "_one.py")
    stub = package / "learning/__init__.pyi"
    stub.write_text(stub.read_text().replace("from .one ", "from .family._one "))
    assert fingerprint() == first


def test_taking_another_definition_of_the_same_name_is_a_change(house):
    package, fingerprint = house
    (package / "layers/third.py").write_text("thing = 5\n")
    (package / "layers/other.py").write_text("thing = 5\n")
    one = package / "learning/one.py"
    first = fingerprint()
    one.write_text(one.read_text().replace("layers.base", "layers.other"))
    second = fingerprint()
    assert second != first
    one.write_text(one.read_text().replace("layers.other", "layers.third"))
    assert fingerprint() == second  # the same words in another file


def test_a_users_own_modules_are_followed(house, tmp_path):
    _, fingerprint = house
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "nets.py").write_text("import helper\ndef build():\n    return helper.width()\ndef x(): return 1\n")
    (mine / "helper.py").write_text("def width():\n    return 3\n")
    first = fingerprint((mine / "nets.py", "build"))
    (mine / "nets.py").write_text((mine / "nets.py").read_text().replace("return 1", "return 2"))
    assert fingerprint((mine / "nets.py", "build")) == first
    (mine / "helper.py").write_text("def width():\n    return 4\n")
    assert fingerprint((mine / "nets.py", "build")) != first


def test_every_study_reaches_its_components():
    for entry in entries().values():
        reached = module.closure([entry.path])
        assert any(name.startswith("neurarium.") and ".studies." not in name for name in reached), entry.slug
        assert all(isinstance(path, Path) for path in reached.values())


def test_alignment_is_reached_by_those_who_use_it_only():
    """Mending `probes/alignment` must cost the re-run of the studies that align, and of no other."""
    using = {
        slug for slug, entry in entries().items()
        if any(place.name == "align_units" for place in module.reached([entry.path]))
    }  # fmt: skip
    assert "linear-path" in using
    assert len(using) < 5
