"""Sums of squared per-example gradients, without a pass per example.

For a linear layer that sees one row per example, the gradient of example n is the outer product of the output gradient
g_n and the input a_n, so the sum of its squares is (G*G)^T (A*A): one matrix product after one backward pass that stops
at the layers' outputs. Everything else (convolutions, normalisation, shared weights, sequences) goes through
``torch.func`` in chunks, which is exact for any use of a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, vjp, vmap

from neurarium.training import call, count_rows, prediction, rows_of, walk_graph

BUDGET = 2**25
"""Numbers (128 MiB in float32) that one chunk of per-example gradients may take."""


class Call(NamedTuple):
    """A linear layer's call: its input rows, the place of its output in the graph, and the output's width."""

    rows: Tensor
    edge: GradientEdge
    width: int


class Traced:
    """One forward pass on a batch, ready to have vectors pulled back through it, any number of times.

    Args:
        model: in evaluation mode, so that no example depends on another.
        x: inputs, one example per row of the first dimension (of each entry of a dictionary).
        parameters: which gradients are wanted, by name.
    """

    def __init__(self, model: nn.Module, x: Any, parameters: dict[str, nn.Parameter]) -> None:
        self.model, self.x, self.count = model, x, count_rows(x)
        self._calls: dict[str, list[Call | None]] = {}
        output = self._run()
        if not isinstance(output, Tensor):
            raise TypeError(f"the model must return one tensor, not {type(output).__name__}")
        if len(output) != self.count:
            raise ValueError(f"the model must return one row per example: {self.count} went in, {len(output)} came out")
        self.output, self.parameters = output, parameters
        uses = count_uses(output)
        self.linear = self._linear_layers(uses)
        done = {f"{layer}.{part}".lstrip(".") for layer in self.linear for part in ("weight", "bias")}
        self.rest = {name: p for name, p in parameters.items() if name not in done and uses.get(p, 0) > 0}

    def _run(self) -> Any:
        handles = []
        for name, module in self.model.named_modules():
            if type(module) is nn.Linear:  # a subclass or a parametrized layer may compute something else

                def keep(_: nn.Module, inputs: tuple[Any, ...], output: Any, name: str = name) -> None:
                    call = None
                    if output.requires_grad:
                        call = Call(inputs[0].detach(), get_gradient_edge(output), output.shape[-1])
                    self._calls.setdefault(name, []).append(call)

                # Before the user's hooks, so that the edge is that of the layer's own output.
                handles.append(module.register_forward_hook(keep, prepend=True))
        try:
            with torch.enable_grad():
                return call(self.model, self.x)
        finally:
            for handle in handles:
                handle.remove()

    def _linear_layers(self, uses: dict[Tensor, int]) -> dict[str, Call]:
        """Layers called once, with one row per example, whose parameters are used nowhere else."""
        found = {}
        for name, calls in self._calls.items():
            layer = self.model.get_submodule(name)
            alone = all(uses.get(p, 0) == 1 for p in layer.parameters() if p.requires_grad)
            call = calls[0] if len(calls) == 1 else None
            if alone and call is not None and call.rows.dim() == 2 and len(call.rows) == self.count:
                found[name] = call
        return found

    def squares(self, vectors: Tensor) -> dict[str, Tensor]:
        """Sum over vectors v and examples n of the squared gradient of <output_n, v_n>.

        Args:
            vectors: [vectors, *output.shape].
        """
        sums = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        if self.linear and self.output.requires_grad:
            gradients = pull_back(self.output, [call.edge for call in self.linear.values()], vectors)
            for (name, call), gradient in zip(self.linear.items(), gradients):
                if gradient is None:
                    continue
                squared = gradient.square().sum(0)
                weight, bias = f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")
                if weight in sums:
                    sums[weight] = squared.T @ call.rows.square()
                if bias in sums:
                    sums[bias] = squared.sum(0)
        if self.rest:
            try:
                sums.update(self._mapped(vectors) if isinstance(self.x, Tensor) else self._looped(vectors))
            except RuntimeError:  # vmap cannot trace the model (recurrent kernels, control flow on values)
                sums.update(self._looped(vectors))
        return sums

    @torch.no_grad()
    def _mapped(self, vectors: Tensor) -> dict[str, Tensor]:
        """The same sums for the parameters that linear layers do not account for."""
        rest = {name: p.detach() for name, p in self.rest.items()}

        def one(example: Tensor, pulled: Tensor) -> dict[str, Tensor]:
            def run(values: dict[str, Tensor]) -> Tensor:
                return prediction(functional_call(self.model, values, (example[None],)))[0]

            back = vjp(run, rest)[1]
            return {name: gradient.square().sum(0) for name, gradient in vmap(back)(pulled)[0].items()}

        size = sum(p.numel() for p in rest.values()) * len(vectors)
        chunk = max(1, min(self.count, BUDGET // size))
        sums = {name: torch.zeros_like(p) for name, p in rest.items()}
        for x, v in zip(self.x.split(chunk), vectors.transpose(0, 1).split(chunk)):
            for name, squares in vmap(one)(x, v).items():
                sums[name] += squares.sum(0)
        return sums

    def _looped(self, vectors: Tensor) -> dict[str, Tensor]:
        """The same, one example and vector at a time: slow, and right for any model."""
        sums = {name: torch.zeros_like(p) for name, p in self.rest.items()}
        for n in range(self.count):
            with torch.enable_grad():
                output = call(self.model, rows_of(self.x, slice(n, n + 1)))
            for vector in vectors[:, n : n + 1]:
                gradients = torch.autograd.grad(
                    output, list(self.rest.values()), vector, retain_graph=True, allow_unused=True
                )
                for total, gradient in zip(sums.values(), gradients):
                    if gradient is not None:
                        total += gradient.square()
        return sums

    def most_vectors(self) -> int:
        """How many vectors fit into the budget at once."""
        rest = sum(p.numel() for p in self.rest.values())
        width = sum(call.width for call in self.linear.values())
        return max(1, BUDGET // max(rest, self.count * width, self.output.numel()))


def count_uses(output: Tensor) -> dict[Tensor, int]:
    """How many operations of the graph behind ``output`` read each leaf tensor.

    Raises:
        ValueError: the graph contains re-entrant checkpoints, which hide what they read.
    """
    uses: dict[Tensor, int] = {}
    for node in walk_graph(output):
        if node.name() == "CheckpointFunctionBackward":
            raise ValueError("re-entrant checkpointing hides the model's parameters; pass use_reentrant=False to it")
        for below, _ in node.next_functions:
            if below is not None and hasattr(below, "variable"):
                uses[below.variable] = uses.get(below.variable, 0) + 1
    return uses


def pull_back(output: Tensor, edges: Sequence[GradientEdge], vectors: Tensor) -> list[Tensor | None]:
    """Gradients of <output, v> at some edges for each vector v, stacked in front; None where there is no path."""

    def back(v: Tensor, batched: bool) -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            output, list(edges), v, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )

    if len(vectors) == 1:
        return [None if g is None else g[None] for g in back(vectors[0], False)]
    try:
        return list(back(vectors, True))
    except RuntimeError:  # an operation that cannot be batched (a custom autograd.Function): one vector at a time
        single = [back(v, False) for v in vectors]
        return [None if parts[0] is None else torch.stack(list(parts)) for parts in zip(*single)]
