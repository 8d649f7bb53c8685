"""The fingerprint changes exactly when code a study depends on changes."""

from pathlib import Path

import pytest

from neurarium.lab import fingerprint as module
from neurarium.lab.registry import entries


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A copy in small of the package, whose files a test may change."""
    package = tmp_path / "neurarium"
    files = {
        "__init__.py": "",
        "learning/__init__.py": "import lazy_loader\n",
        "learning/__init__.pyi": "from .one import One as One\nfrom .two import Two as Two\n",
        "learning/one.py": "from neurarium.layers.base import thing\nclass One:\n    '''Doc.'''\n    x = 1\n",
        "learning/two.py": "class Two:\n    y = 2\n",
        "layers/__init__.py": "",
        "layers/base.py": "thing = 1  # a comment\n",
        "lab/__init__.py": "",
        "lab/__init__.pyi": "from .run import Run as Run\nfrom .claims import Claim as Claim\n",
        "lab/run.py": "class Run: pass\n",
        "lab/claims.py": "class Claim: pass\n",
        "studies/__init__.py": "",
        "studies/s.py": "from neurarium.learning import One\nfrom neurarium.lab import Claim, Run\n",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(module, "PACKAGE", package)
    module._stub.cache_clear()

    def fingerprint():
        module.significant.cache_clear()
        module._stub.cache_clear()
        return module.fingerprint([package / "studies/s.py"])

    yield package, fingerprint
    module._stub.cache_clear()
    module.significant.cache_clear()


def test_closure_is_what_is_used(house):
    package, _ = house
    names = set(module.closure([package / "studies/s.py"]))
    assert names == {"neurarium.studies.s", "neurarium.learning.one", "neurarium.layers.base", "neurarium.lab.run"}


@pytest.mark.parametrize(
    ("file", "before", "after", "stale"),
    [
        ("learning/one.py", "x = 1", "x = 2", True),
        ("layers/base.py", "thing = 1", "thing = 3", True),
        ("lab/run.py", "pass", "x = 1", True),
        ("learning/two.py", "y = 2", "y = 3", False),
        ("lab/claims.py", "pass", "x = 1", False),
        ("learning/one.py", "Doc.", "Better words.", False),
        ("layers/base.py", "# a comment", "# another", False),
        ("learning/__init__.pyi", "from .two", "# new\nfrom .two", False),
    ],
)
def test_stale_exactly_when_code_changed(house, file, before, after, stale):
    package, fingerprint = house
    first = fingerprint()
    text = (package / file).read_text()
    assert before in text
    (package / file).write_text(text.replace(before, after))
    assert (fingerprint() != first) is stale


def test_every_study_reaches_its_components():
    for entry in entries().values():
        reached = set(module.closure([entry.path]))
        assert any(name.startswith("neurarium.") and ".studies." not in name for name in reached), entry.slug
        assert all(isinstance(path, Path) for path in module.closure([entry.path]).values())
