"""What a nowcast costs: a NiNo of the released size on a transformer of 1.6 million parameters, against its Adam steps.

Prints the seconds of one nowcast and its share of the 1,000 optimizer steps that it comes after, the bytes alive at its
peak, and the time of one layer of messages against torch_geometric's PNAConv (the ``graphs`` extra; equal outputs are
checked) on the same graph. Repetitions are interleaved; medians are printed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.models import CausalTransformer, NiNo, neural_graph
from neurarium.models.weights._nino import EdgeModulatedMessages
from neurarium.training import peak_bytes

PERIOD, BATCH, LENGTH, REPETITIONS = 1000, 16, 64, 3


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Time nowcast and steps, print ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = CausalTransformer(1000, d_model=160, nhead=4, num_layers=4, dim_feedforward=640, context=LENGTH)
    count = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.Adam(model.parameters())
    tokens = torch.randint(1000, (BATCH, LENGTH + 1))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()

    start = time.perf_counter()
    bound = NiNo(chunk=100_000).bind(model)
    print(
        f"{count:,} parameters; graph and positions in {time.perf_counter() - start:.1f} s, once: {bound.parts[0][0]}"
    )
    states = torch.randn(count, 1) + 0.01 * torch.randn(count, 5).cumsum(1)

    def nowcast() -> None:
        bound.predict(states, 10)

    step()
    times: dict[str, list[float]] = {"nowcast": [], "step": []}
    for _ in range(REPETITIONS):
        times["nowcast"].append(seconds(nowcast))
        times["step"] += [seconds(step) for _ in range(5)]
    once, one = statistics.median(times["nowcast"]), statistics.median(times["step"])
    print(f"a nowcast {once:.1f} s, an Adam step {one * 1e3:.0f} ms: {once / (PERIOD * one):.2%} of {PERIOD} steps")
    print(f"peak of a nowcast {peak_bytes(nowcast) / 2**30:.2f} GiB")
    messages(model)


def messages(model: nn.Module, hidden: int = 64) -> None:
    """One layer of messages without modulation, ours and torch_geometric's."""
    try:
        from torch_geometric.nn import PNAConv
    except ImportError:
        print("torch_geometric is not installed (pip install 'neurarium[graphs]'): no peer for the messages")
        return
    graph = neural_graph(model)
    source, target = graph.edge_index
    x = torch.randn(graph.nodes, hidden)
    theirs = PNAConv(hidden, hidden, ["mean"], ["identity"], torch.ones(2, dtype=torch.long))
    ours = EdgeModulatedMessages(hidden)
    with torch.no_grad():
        nn.init.zeros_(ours.modulation.weight)
        ours.modulation.bias.copy_(torch.cat([torch.ones(hidden), torch.zeros(hidden)]))
        pairs = ((ours.pair, theirs.pre_nns[0][0]), (ours.update, theirs.post_nns[0][0]), (ours.out, theirs.lin))
        for mine, other in pairs:
            mine.load_state_dict(other.state_dict())
        edges = torch.zeros(1, len(source), hidden)
        calls = {
            "ours": lambda: ours(x[None], edges, source, target, 100_000)[0],
            "torch_geometric": lambda: theirs(x, graph.edge_index),
        }
        print("largest difference", float((calls["ours"]() - calls["torch_geometric"]()).abs().max()))
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(REPETITIONS):
            for name, call in calls.items():
                found[name].append(seconds(call))
    mine, other = (statistics.median(found[name]) for name in calls)
    print(f"messages {mine:.2f} s (modulation included), PNAConv {other:.2f} s (without): {mine / other:.2f}")


if __name__ == "__main__":
    main()
