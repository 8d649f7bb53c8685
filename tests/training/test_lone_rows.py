"""Batches of one row: joined to the one before, where there is one."""

import pytest
import torch
from torch import nn

from neurarium.compression import (
    IterativeMagnitudePruning,
    KnowledgeConcentration,
    ProgressiveDistillation,
    SortedCompression,
    SparseEvolutionaryTraining,
    TeacherClass,
)
from neurarium.data import Arrays, Batches, LabelTree
from neurarium.training import JoinedBatches, shuffled_rows


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 16, 17, 33])
def test_a_last_row_that_is_alone_joins_the_batch_before(count):
    x = torch.arange(count)
    pairs = list(zip(x.split(8), x.split(8), strict=True)) if count else []
    for loader in (pairs, [{"a": a, "b": b} for a, b in pairs], [(a, b, b) for a, b in pairs]):
        found = [next(iter(b.values())) if isinstance(b, dict) else b[0] for b in JoinedBatches(loader)]
        assert torch.equal(torch.cat([torch.zeros(0, dtype=torch.int64), *found]), x)
        assert count < 2 or min(len(part) for part in found) > 1
    torch.manual_seed(0)
    rows = shuffled_rows(count, 8)
    torch.manual_seed(0)
    assert torch.equal(torch.cat(rows), torch.randperm(count))
    assert count < 2 or min(len(part) for part in rows) > 1


def normed():
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip


def small(*_):
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def chunk_student(shape, outputs, parameters):
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, outputs))


def concentrate(model, loader):
    teaching = KnowledgeConcentration({"all": normed()}, LabelTree({"all": ["a", "b", "c"]}))
    return teaching.compress(model, loader, epochs=1)


COMPRESSORS = {
    "sorted": SortedCompression(0.5, epochs=1).compress,
    "sparse": SparseEvolutionaryTraining(0.5, epochs=1).compress,
    "ticket": IterativeMagnitudePruning(rounds=1, epochs=1).compress,
    "progressive": ProgressiveDistillation(
        small, shares=(0.5, 0.5), epochs=1, batch_size=4, held_out=8 / 33
    ).compress,
    "class": TeacherClass(2, student=chunk_student, epochs=1, head_epochs=1, batch_size=8).compress,
    "concentration": concentrate,
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressors_of_networks_with_batch_normalisation_take_33_examples_in_batches_of_8(name):
    torch.manual_seed(0)
    loader = Batches(Arrays(torch.randn(33, 6), torch.arange(33) % 3), 8)
    small_model = COMPRESSORS[name](normed(), loader)
    assert bool(small_model.eval()(torch.randn(4, 6)).isfinite().all())
