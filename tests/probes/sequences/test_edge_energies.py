"""Energies of edges for a model whose logits are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurarium.probes import edge_energies


def test_a_table_of_logits_is_read_back_and_its_ranks_are_right() -> None:
    table = nn.Embedding(4, 4)
    x = torch.tensor([[0, 1, 0, 2, 0, 1]])
    y = torch.tensor([[1, 0, 2, 0, 1, 1]])
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[0.0, 3, 2, 0], [3, 2, 0, 0], [5, 1, 1, 1], [0, 0, 0, 0]]))
    found = edge_energies(table, [(x, y)])
    assert torch.equal(found.energies[:3], table.weight[:3])
    assert found.energies[3].isnan().all()
    assert found.counts[0].tolist() == [0, 2, 1, 0]
    # the second token's successors are counted (1, 1, 0, 0), held (3, 2, 0, 0): ranks 3.5 3.5 1.5 1.5 and 4 3 1.5 1.5
    second = 4 / (4 * 4.5) ** 0.5
    assert found.rank_correlation == pytest.approx((3 * 1 + 2 * second + 1 * 1) / 6)
    with pytest.raises(ValueError, match="no batches"):
        edge_energies(table, [])
