"""Hidden states of a sequence model by layer and position: do they cluster by meaning, and do they carry the answer?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation, find_module, prediction


@dataclass(frozen=True)
class ClusterGap(ProbeResult):
    """Cosine similarity of states within groups, less that between groups.

    Args:
        layers: names of the modules.
        within: mean similarity of two states of one group [layers, positions].
        between: of two states of different groups.
    """

    layers: tuple[str, ...]
    within: Float[Tensor, "layers positions"]
    between: Float[Tensor, "layers positions"]

    @property
    def gap(self) -> Float[Tensor, "layers positions"]:
        """Within less between: 0 where states do not know the groups."""
        return self.within - self.between

    def summary(self) -> str:
        """The largest gap and where it is."""
        at = int(self.gap.argmax())
        layer, position = divmod(at, self.gap.shape[1])
        return f"largest gap {float(self.gap.max()):.3f} after {self.layers[layer]} at position {position}"

    def plot(self, ax: Any) -> Any:
        """A map over layers and positions."""
        image = ax.imshow(self.gap.cpu().numpy(), cmap="viridis", aspect="auto", origin="lower")
        ax.figure.colorbar(image, ax=ax, label="cosine within - between groups")
        ax.set_yticks(range(len(self.layers)), self.layers)
        ax.set_xlabel("position")
        return ax


@torch.no_grad()
def cluster_gap(
    model: nn.Module, x: Int[Tensor, "batch length"], groups: Int[Tensor, " batch"], layers: Sequence[str]
) -> ClusterGap:
    """Whether states of inputs that mean the same lie together (the intra-class - inter-class cosine gap).

    Args:
        model: a sequence model.
        x: tokens.
        groups: what each input means, such as the value of its first function.
        layers: names of modules whose outputs are [batch, length, features].

    Raises:
        ValueError: no two inputs share a group, or all do.
    """
    same = groups[:, None] == groups[None, :]
    other, same = ~same, same & ~torch.eye(len(groups), dtype=torch.bool, device=same.device)
    if not bool(same.any()) or not bool(other.any()):
        raise ValueError("groups must hold two inputs of one group and two of different ones")
    with evaluation(model), _states(model, layers) as states:
        call(model, x)
    cosines = []
    for layer in layers:
        unit = nn.functional.normalize(states[layer], dim=-1).transpose(0, 1)
        products = unit @ unit.transpose(1, 2)
        cosines.append(torch.stack([products[:, mask].mean(1) for mask in (same, other)]))
    within, between = torch.stack(cosines, 1)
    return ClusterGap(tuple(layers), within, between)


@dataclass(frozen=True)
class PatchEffect(ProbeResult):
    """Answers before and after a state was replaced by that of another input.

    Args:
        changed: inputs whose answer is another one with the replaced state.
        follows: inputs whose new answer is the one expected of the mixture; empty where none was given.
        shift: mean change of the logits' log-probability of the old answer.
    """

    changed: Bool[Tensor, " batch"]
    follows: Bool[Tensor, " batch"] | None
    shift: float

    def summary(self) -> str:
        """Shares."""
        text = f"{float(self.changed.double().mean()):.1%} of the answers change"
        return (
            text if self.follows is None else f"{text}, {float(self.follows.double().mean()):.1%} to the expected one"
        )

    def plot(self, ax: Any) -> Any:
        """Two bars."""
        parts = {"changed": self.changed} | ({} if self.follows is None else {"as expected": self.follows})
        ax.bar(list(parts), [float(part.double().mean()) for part in parts.values()])
        ax.set_ylim(0, 1)
        ax.set_ylabel("share of inputs")
        return ax


@torch.no_grad()
def patch_effect(
    model: nn.Module,
    clean: Int[Tensor, "batch length"],
    corrupt: Int[Tensor, "batch length"],
    layer: str,
    position: int,
    expected: Int[Tensor, " batch"] | None = None,
) -> PatchEffect:
    """Causal tracing: what becomes of the answer if one state comes from another input.

    Args:
        model: a sequence model whose answer is its output at the last position, or its only output.
        clean: tokens.
        corrupt: tokens that the state is taken from.
        layer: name of a module whose output is [batch, length, features].
        position: whose state is replaced.
        expected: answers if the state carried all that the first tokens say.

    Raises:
        ValueError: clean and corrupt differ in shape.
    """
    if clean.shape != corrupt.shape:
        raise ValueError(f"clean and corrupt must have one shape, not {list(clean.shape)} and {list(corrupt.shape)}")
    with evaluation(model):
        with _states(model, [layer]) as states:
            call(model, corrupt)
        taken = states[layer][:, position].clone()
        before = _answer(call(model, clean))

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            first = (output[0] if isinstance(output, tuple) else output).clone()
            first[:, position] = taken
            return (first, *output[1:]) if isinstance(output, tuple) else first

        handle = find_module(model, layer).register_forward_hook(replace)
        try:
            after = _answer(call(model, clean))
        finally:
            handle.remove()
    old, new = before.argmax(-1), after.argmax(-1)
    logs = [scores.log_softmax(-1).gather(1, old[:, None]) for scores in (before, after)]
    return PatchEffect(old != new, None if expected is None else new == expected, float((logs[1] - logs[0]).mean()))


def _answer(output: Any) -> Tensor:
    scores = prediction(output)
    return scores[:, -1] if scores.dim() == 3 else scores


@contextmanager
def _states(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of some modules in the pass that is run inside."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [find_module(model, name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
