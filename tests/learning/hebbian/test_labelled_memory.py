"""Named vectors with missing entries come back from part of themselves, several at once."""

import pytest
import torch

from neurarium.data import diluted_patterns
from neurarium.learning import LabelledMemory


def memory(dilution=0.6, neurons=300, count=3):
    vectors = diluted_patterns(count, neurons, dilution, generator=torch.Generator().manual_seed(0))
    named = {f"v{i}": v for i, v in enumerate(vectors)}
    return LabelledMemory(neurons).store(named), named


def test_a_half_known_vector_is_completed():
    held, named = memory(dilution=0.0)
    probe = named["v1"].clone()
    probe[::2] = 0
    found = held.recall(probe, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found.state, named["v1"])
    assert found.active == ("v1",)
    assert found.agreement["v1"] == 1.0


def test_vectors_known_in_different_places_are_all_active():
    vectors = torch.zeros(3, 300)
    for i in range(3):
        vectors[i, 100 * i : 100 * (i + 1)] = (torch.arange(100) * (i + 1) % 3 == 0).float() * 2 - 1
    held = LabelledMemory(300).store(dict(zip("abc", vectors, strict=True)))
    probe = torch.zeros(300)
    probe[:20], probe[100:120], probe[200:220] = vectors[0, :20], vectors[1, 100:120], -vectors[2, 200:220]
    found = held.recall(probe)
    assert set(found.active) == {"a", "b"}
    assert found.agreement["c"] == -1.0
    assert found.significance["a"] == pytest.approx(10.0)


def test_given_entries_stay_only_if_trusted():
    held, named = memory(dilution=0.0)
    probe = named["v0"].clone()
    probe[:30] = -probe[:30]
    assert torch.equal(held.recall(probe).state, probe)
    assert torch.equal(held.recall(probe, trust=False).state, named["v0"])


def test_trusted_entries_survive_noise():
    held, _ = memory()
    probe = torch.where(torch.arange(300) < 40, 1.0, 0.0)
    found = held.recall(probe, temperature=5.0, generator=torch.Generator().manual_seed(0))
    assert bool((found.state[:40] == 1).all())
    assert not bool((found.state[40:] == 1).all())


def test_saving_keeps_names():
    held, named = memory()
    again = LabelledMemory(300)
    again.load_state_dict(held.state_dict())
    assert again.names == ["v0", "v1", "v2"]
    assert again.recall(named["v2"]).active == held.recall(named["v2"]).active


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda m, v: m.store({"v0": v["v0"]}), "named 'v0' is stored already"),
        (lambda m, v: m.recall(torch.ones(4)), "probe must be 300 entries"),
        (lambda m, v: m.recall(torch.full((300,), 0.5)), "probe must be 300 entries"),
        (lambda m, v: LabelledMemory(3).recall(torch.ones(3)), "the memory is empty"),
        (lambda m, v: LabelledMemory(3, significance=0), "significance must be positive"),
    ],
)
def test_bad_requests(use, sentence):
    with pytest.raises(ValueError, match=sentence):
        use(*memory())
