"""Corpora from packages whose contents are known, and texts as numbers."""

import gzip
import io
import tarfile

import pytest
import torch

from neurarium.data import DataError, characters, load_corpus, text_windows
from neurarium.data.text._corpora import docstrings, plain


@pytest.fixture
def package(tmp_path, monkeypatch, no_network):
    """The tree of a Debian package with given files."""

    def write(**files):
        with tarfile.open(tmp_path / "p.tar", "w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo("./usr/share/" + name.replace("__", "/"))
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        monkeypatch.setattr("neurarium.data.text._corpora.obtain", lambda entry: {"p.tar": tmp_path / "p.tar"})

    return write


def test_sayings_come_once_and_without_colours(package):
    package(
        games__fortunes__b=b"One\nof two lines\n%\nTwo\n%\n",
        games__fortunes__a="Two\n%\n\x1b[32mGrün\x1b[m\n".encode(),
        games__fortunes__old=b"\xfcber\n",
        doc__readme=b"no saying",
        **{"games__fortunes__a.dat": b"\0\1"},
    )
    assert load_corpus("fortunes", "de") == "Two\n\nGrün\n\nOne\nof two lines\n\nüber"
    assert load_corpus("fortunes-de") == load_corpus("fortunes", "de")


def test_manuals_lose_their_markup(package):
    page = (
        r""".\" comment
.TH random 4
.SH NAME
random \- kernel \fIrandom\fP number
.PP
.BR "two words" (2),
see \(aqthis\(aq and \e0.
"""
        + "x" * 200
    )
    package(man__man4__r=b"", **{"man__man4__r.4.gz": gzip.compress(page.encode())}, man__man4__x=b"no page")
    assert (
        load_corpus("manpages")
        == "NAME\nrandom - kernel random number\n\ntwo words (2),\nsee 'this' and \\0.\n" + "x" * 200
    )
    assert plain(".B bold\n.nf\n.RS 4\n\\fBx\\fR") == "bold\nx"


def test_documentation_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURARIUM_HOME", str(tmp_path))
    first = docstrings(["lazy_loader"])
    assert "lazy" in first.lower()
    (kept,) = (tmp_path / "data" / "docstrings").iterdir()
    kept.write_text("kept")
    assert docstrings(["lazy_loader"]) == "kept"
    with pytest.raises(DataError, match="the package no_such_package is not installed"):
        docstrings(["no_such_package"])


def test_what_there_is_not(no_network):
    with pytest.raises(DataError, match="did you mean 'fortunes'"):
        load_corpus("fortune")
    with pytest.raises(DataError, match="fortunes is not there in 'fr', but in en, de, ru, zh"):
        load_corpus("fortunes", "fr")
    with pytest.raises(DataError, match="docstrings is not there in 'de', but in en"):
        load_corpus("docstrings", "de")
    with pytest.raises(DataError, match=r"forbids fetching; put fortunes\.tar into a folder"):
        load_corpus("fortunes")


def test_characters_and_back():
    tokens, alphabet = characters("abracadabra")
    assert alphabet == "abcdr"
    assert "".join(alphabet[i] for i in tokens) == "abracadabra"
    assert characters("dab", alphabet)[0].tolist() == [3, 0, 1]
    with pytest.raises(DataError, match="the character 'x', which the alphabet lacks"):
        characters("xa", alphabet)
    with pytest.raises(DataError, match="empty"):
        characters("")


def test_windows_foresee_one_token():
    tokens = torch.arange(20)
    pieces = text_windows(tokens, 4)
    assert pieces.x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert torch.equal(pieces.y, pieces.x + 1)
    assert len(text_windows(tokens, 4, stride=1)) == 16
    with pytest.raises(DataError, match="need more than 20 tokens, not 20"):
        text_windows(tokens, 20)
