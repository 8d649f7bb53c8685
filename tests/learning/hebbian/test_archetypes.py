"""Discovery of hidden patterns from unlabelled examples."""

import pytest
import torch

from neurarium.data import binarise, diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory, discover_archetypes


def test_hidden_patterns_emerge_without_labels():
    generator = torch.Generator().manual_seed(0)
    patterns = diluted_patterns(5, 300, generator=generator)
    examples = noisy_examples(patterns, 0.4, 60, generator).flatten(0, 1)
    memory = HebbianMemory(300, quality=0.4, num_patterns=5).learn(examples)
    found = discover_archetypes(memory, examples[::5], generator=generator)
    assert bool(found.found(patterns).all())
    assert int(found.counts.sum()) == 60
    assert found.counts.tolist() == sorted(found.counts.tolist(), reverse=True)
    # no example was near a pattern, let alone equal to one
    assert float((examples @ patterns.T / 300).max()) < 0.65


def test_few_examples_are_memorised_instead():
    generator = torch.Generator().manual_seed(1)
    patterns = diluted_patterns(2, 200, generator=generator)
    examples = noisy_examples(patterns, 0.4, 2, generator).flatten(0, 1)
    memory = HebbianMemory(200, 4, quality=0.4, num_patterns=2).learn(examples)
    found = discover_archetypes(memory, examples, generator=generator)
    assert not bool(found.found(patterns).any())
    assert bool(found.found(examples).all())


def test_a_state_and_its_negative_are_one():
    pattern = diluted_patterns(1, 50, generator=torch.Generator().manual_seed(2))
    memory = HebbianMemory(50).store(pattern)
    found = discover_archetypes(memory, torch.cat([pattern, -pattern]))
    assert len(found) == 1
    assert found.counts.tolist() == [2]
    assert abs(float(found.states[0] @ pattern[0])) == 50


def test_bad_input():
    memory = HebbianMemory(4).store(torch.ones(1, 4))
    with pytest.raises(ValueError, match="at least one start"):
        discover_archetypes(memory, torch.ones(0, 4))
    with pytest.raises(ValueError, match="overlap must lie"):
        discover_archetypes(memory, torch.ones(1, 4), overlap=0.0)


def test_binarise():
    x = torch.tensor([[[0, 10]], [[4, 30]]], dtype=torch.uint8)
    assert binarise(x).tolist() == [[-1, -1], [1, 1]]
    assert binarise(x, 20).tolist() == [[-1, -1], [-1, 1]]
    assert binarise(x[:1], x.double().mean(0)).tolist() == [[-1, -1]]
    with pytest.raises(ValueError, match="no example"):
        binarise(x[:0])
