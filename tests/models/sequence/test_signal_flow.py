"""The signal-flow language model against loops written out, its paper's sizes, and languages that it must learn."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu

from neurarium.layers import EdgeMatrices, SharedEdges, sinusoidal_positions
from neurarium.layers.edges import _edge_matrices
from neurarium.models import SignalFlowLanguageModel, edge_counts, frequent_successors

TOKENS = torch.randint(5, (3, 6), generator=torch.Generator().manual_seed(0))


def model(seed: int = 0, num_tokens: int = 5, width: int = 4, **options: Any) -> SignalFlowLanguageModel:
    torch.manual_seed(seed)
    return SignalFlowLanguageModel(num_tokens, width, **options)


def by_hand(flow: SignalFlowLanguageModel, tokens: Tensor) -> Tensor:
    """Energies by a loop over batch, step, candidate."""
    waves = torch.zeros(len(tokens[0]) + 1, flow.width)
    if flow.positions:
        longest = 1e4 if flow.positions == "sinusoidal" else 1e-4
        waves = sinusoidal_positions(torch.arange(len(waves)).float(), flow.width, longest)
    rows = []
    for sequence in tokens.tolist():
        signals = [gelu(torch.ones(flow.width) / flow.width + flow.nodes[sequence[0]] + waves[0])]
        steps = []
        for i, u in enumerate(sequence):
            e = signals[-1]
            if flow.memory == "mixture":
                weights = flow.place_weights[: i + 1].softmax(0)
                e = sum(w * s for w, s in zip(weights, signals, strict=True))  # type: ignore[assignment]
            arrived = []
            for v in range(flow.num_tokens):
                slot = flow.edges.slots[u, v]
                arrived.append(gelu(e @ flow.edges.matrices[slot] + flow.edges.bias[slot] + waves[i + 1]))
            steps.append(torch.stack([a.square().sum().sqrt() for a in arrived]))
            if i + 1 < len(sequence):
                signals.append(arrived[sequence[i + 1]])
        rows.append(torch.stack(steps))
    return torch.stack(rows)


@pytest.mark.parametrize("memory", ["chain", "mixture"])
@pytest.mark.parametrize("positions", ["sinusoidal", "released", None])
def test_energies_are_those_of_a_loop_over_candidates(memory: str, positions: str | None) -> None:
    flow = model(memory=memory, positions=positions)
    if memory == "mixture":
        flow.place_weights.data.normal_()
    assert torch.allclose(flow(TOKENS), by_hand(flow, TOKENS), atol=1e-5)


def test_every_path_through_the_edges_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = model()
    full = flow(TOKENS)
    x, source = torch.randn(3, 4), TOKENS[:, 0]
    some = torch.tensor([[0, 3], [1, 1], [4, 2]])
    assert torch.allclose(
        flow.edges(x, source, some), flow.edges(x, source).take_along_dim(some[..., None], 1), atol=1e-6
    )
    monkeypatch.setattr(_edge_matrices, "BLOCK_NODES", 2)
    assert flow.edges.block_matrix() is None
    assert torch.allclose(flow(TOKENS), full, atol=1e-5)


def test_edges_that_are_not_taken_get_no_gradient() -> None:
    edges = EdgeMatrices(4, 3)
    edges(torch.randn(2, 3), torch.tensor([0, 2]), torch.tensor([[1, 3], [0, 0]])).sum().backward()
    used = [edges.slots[u, v] for u, v in ((0, 1), (0, 3), (2, 0))]
    touched = edges.weight.grad.abs().sum(1).nonzero()[:, 0]  # type: ignore[union-attr]
    assert sorted(touched.tolist()) == sorted(int(slot) for slot in used)
    thin = EdgeMatrices(4, 3, sparse=True)
    thin(torch.randn(1, 3), torch.tensor([0]), torch.tensor([[1]])).sum().backward()
    assert thin.weight.grad.is_sparse  # type: ignore[union-attr]


def test_derivatives_are_right() -> None:
    flow = model(num_tokens=4, width=3, positions=None, memory="mixture").double()
    names, values = zip(*flow.named_parameters(), strict=True)
    tokens = TOKENS[:1, :3] % 4
    assert torch.autograd.gradcheck(
        lambda *v: torch.func.functional_call(flow, dict(zip(names, v, strict=True)), tokens), values
    )


def test_sizes_are_the_papers() -> None:
    assert sum(p.numel() for p in model(num_tokens=6, width=4, memory="mixture").parameters()) == 36 * 20 + 6 * 4 + 512
    counts = torch.ones(32, 32, dtype=torch.long)
    counts.view(-1)[:55] = 0
    shared = SharedEdges.from_counts(counts)
    assert sum(p.numel() for p in EdgeMatrices(32, 16, shared).parameters()) == 970 * (16**2 + 16)
    with pytest.raises(ValueError, match=r"16.9 billion parameters: share edges or lower width"):
        EdgeMatrices(4000, 32)


def test_shared_edges_are_one() -> None:
    counts = edge_counts(torch.tensor([0, 1, 0, 1, 2]), 3)
    assert counts.tolist() == [[0, 2, 0], [1, 0, 1], [0, 0, 0]]
    slots = SharedEdges.from_counts(counts).slots
    assert slots.tolist() == [[0, 1, 0], [2, 0, 3], [0, 0, 0]]
    assert SharedEdges.from_counts(counts, 2).slots.max() == 1
    assert torch.equal(SharedEdges.from_counts(counts, 0).slots, torch.arange(9).view(3, 3))


def test_without_matrices_a_source_is_known_by_its_biases() -> None:
    flow = model(positions=None)
    flow.edges.weight.data.zero_()
    found = flow(TOKENS)
    for u in range(5):
        rows = found[u == TOKENS]
        assert torch.allclose(rows, gelu(flow.edges.bias[flow.edges.slots[u]]).norm(dim=-1).expand_as(rows), atol=1e-6)


def test_the_mixture_begins_as_the_chain_does() -> None:
    chain, mixture = model(), model(memory="mixture")
    mixture.load_state_dict(chain.state_dict(), strict=False)
    assert torch.allclose(chain(TOKENS)[:, 0], mixture(TOKENS)[:, 0], atol=1e-6)
    assert not torch.allclose(chain(TOKENS)[:, 1], mixture(TOKENS)[:, 1], atol=1e-3)


@pytest.mark.parametrize("memory", ["chain", "mixture"])
def test_token_by_token_is_the_full_pass(memory: str) -> None:
    flow = model(memory=memory)
    full, state = flow(TOKENS), None
    for i, token in enumerate(TOKENS.unbind(1)):
        energies, state = flow.advance(token, state)
        assert torch.allclose(energies, full[:, i], atol=1e-5)
    assert state is not None
    assert state.signals.shape == (3, 1 if memory == "chain" else 6, 4)


def test_negatives_that_are_all_others_are_no_restriction() -> None:
    full, drawn = model(), model(negatives=4)
    table = model(negatives=torch.arange(5).expand(5, 5))
    assert torch.allclose(drawn(TOKENS), full(TOKENS), atol=1e-5)
    assert torch.allclose(table(TOKENS), full(TOKENS), atol=1e-5)
    losses = [cross_entropy(m(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten()) for m in (full, table)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(full.edges.weight.grad, table.edges.weight.grad, atol=1e-6)  # type: ignore[arg-type]


def test_few_negatives_leave_the_others_out_in_training_alone() -> None:
    flow = model(negatives=2)
    found = flow(TOKENS)
    assert (found[:, :-1].isfinite().sum(-1) == 3).all()
    assert found[:, -1].isfinite().all()
    assert found[:, :-1].gather(-1, TOKENS[:, 1:, None]).isfinite().all()
    assert flow.eval()(TOKENS).isfinite().all()
    assert frequent_successors(torch.tensor([[0, 5, 2], [1, 0, 0], [0, 3, 9]]), 1)[:, 0].tolist() == [1, 0, 2]


def test_an_untrained_model_knows_little() -> None:
    flow, tokens = model(num_tokens=32, width=16), torch.randint(32, (8, 17))
    loss = cross_entropy(flow(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() - math.log(32)) < 1.5


def test_new_tokens_leave_the_old_edges_bit_for_bit() -> None:
    flow = model()
    weight, bias, before = flow.edges.weight.detach().clone(), flow.edges.bias.detach().clone(), flow(TOKENS)
    flow.add_tokens(2, torch.Generator().manual_seed(0))
    assert torch.equal(flow.edges.weight[:25], weight)
    assert torch.equal(flow.edges.bias[:25], bias)
    assert len(flow.edges.weight) == 49
    assert torch.allclose(flow(TOKENS)[..., :5], before, atol=1e-6)
    assert flow(TOKENS + 1).shape == (3, 6, 7)


def test_probabilities_sum_to_one_over_all_continuations() -> None:
    flow = model(num_tokens=3)
    rest = torch.tensor(list(itertools.product(range(3), repeat=3)))
    sequences = torch.cat([torch.ones(27, 1, dtype=torch.long), rest], 1)
    assert flow.log_probability(sequences).logsumexp(0).item() == pytest.approx(0, abs=1e-5)


def learned(flow: SignalFlowLanguageModel, tokens: Tensor, steps: int) -> float:
    optimizer = torch.optim.AdamW(flow.parameters(), 1e-2)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = cross_entropy(flow(tokens[:, :-1])[:, 1:].flatten(0, 1), tokens[:, 2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss)


def test_a_cycle_is_learned() -> None:
    tokens = (torch.arange(9) + torch.arange(3)[:, None]) % 3
    assert learned(model(num_tokens=3, width=8), tokens, 200) < 0.01


def test_what_two_tokens_decide_is_learned_where_one_tells_nothing() -> None:
    rows = []
    for first, second in itertools.product((0, 1), repeat=2):
        row = [first, second]
        while len(row) < 10:
            row.append(row[-1] ^ row[-2])
        rows.append(row)
    tokens = torch.tensor(rows)
    assert learned(model(num_tokens=2, width=8, positions=None), tokens, 150) < 0.1


def test_generation_follows_its_generator_and_can_do_without_self_loops() -> None:
    flow = model()
    first, second = (flow.generate(TOKENS, 20, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    moved = flow.generate(TOKENS, 20, generator=torch.Generator().manual_seed(1), self_loops=False)
    assert (moved[:, 6:] != moved[:, 5:-1]).all()


def test_requests_that_make_no_sense_are_refused() -> None:
    for match, options in {
        "num_tokens must be at least 2": {"num_tokens": 1},
        "width must be even where there are positions, not 3": {"width": 3},
        "negatives must be between 1 and 4, not 5": {"negatives": 5},
        "a row for each of 5 tokens": {"negatives": torch.zeros(4, 2, dtype=torch.long)},
        "but there are 5 nodes": {"edges": SharedEdges(torch.zeros(4, 4, dtype=torch.long))},
    }.items():
        with pytest.raises(ValueError, match=match):
            model(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokens have length 6, but max_length is 5"):
        model(max_length=5)(TOKENS)
    model(max_length=5, positions=None)(TOKENS)
    with pytest.raises(ValueError, match="tokens must lie between 0 and 2"):
        edge_counts(torch.tensor([0, 3]), 3)
    with pytest.raises(ValueError, match="at least one token"):
        model().generate(TOKENS[:, :0], 3)
