"""A proof that a network is monotonic, from the signs of its weights and the kinds of its parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from neurarium.layers import InputUnits, MonotonicActivation, MonotonicKANLinear, MonotonicLinear
from neurarium.layers.monotonic._parts import RISING
from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation

RISING_FUNCTIONS = {
    F.relu, F.relu6, F.elu, F.celu, F.selu, F.softplus, F.logsigmoid, F.hardtanh, F.hardsigmoid, F.softsign, F.dropout,
    torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.flatten,
}  # fmt: skip
RISING_METHODS = {"relu", "sigmoid", "tanh", "exp", "contiguous", "clone", "float", "double", "flatten"}
OURS = (MonotonicLinear, MonotonicActivation, InputUnits, MonotonicKANLinear)


@dataclass(frozen=True)
class Moves:
    """For every input and feature: whether the feature may rise, and whether it may fall, when the input rises."""

    up: Tensor
    down: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Moves:
        """The same change of features in both."""
        return Moves(change(self.up), change(self.down))

    def plus(self, other: Moves) -> Moves:
        """Of a sum of features."""
        return Moves(self.up | other.up, self.down | other.down)

    def through(self, weight: Tensor) -> Moves:
        """Of linear combinations with a weight [features, new features]."""
        rises, falls = (weight > 0).float(), (weight < 0).float()
        up, down = self.up.float(), self.down.float()
        return Moves((up @ rises + down @ falls) > 0, (up @ falls + down @ rises) > 0)

    def unknown(self) -> Moves:
        """Of functions that may rise and fall of the same feature alone."""
        either = self.up | self.down
        return Moves(either, either)

    def mixed(self) -> Moves:
        """Of functions of all features at once."""
        return self.unknown().map(lambda t: t.any(1, keepdim=True).expand_as(t))


@dataclass(frozen=True)
class MonotonicityProof(ProbeResult):
    """What the parts of a network prove.

    Args:
        proven: every output moves along every held input in the wanted direction only, wherever the inputs are.
        obstacle: why not, for the first held input that is not proved; empty if all are.
        wanted: the direction asked for, per input.
        directions: 1, -1, 0 (no influence) or 2 (either way), of each output along each input [inputs, outputs].
        steps: what was concluded at each part, in order.
    """

    proven: bool
    obstacle: str
    wanted: tuple[int, ...]
    directions: tuple[tuple[int, ...], ...]
    steps: tuple[str, ...]

    def summary(self) -> str:
        """Proved or not, and the direction found for each held input."""
        held = [f"input {i}: {_word(self.directions[i])}" for i, t in enumerate(self.wanted) if t]
        head = "monotonic for all inputs" if self.proven else f"not proved: {self.obstacle}"
        return "\n".join([head, *held])

    def plot(self, ax: Any) -> Any:
        """The direction of each output along each input, as a map."""
        image = ax.imshow(torch.tensor(self.directions).T, cmap="RdYlBu", vmin=-1, vmax=2, aspect="auto")
        ax.figure.colorbar(image, ax=ax, ticks=[-1, 0, 1, 2]).ax.set_yticklabels(["falls", "none", "rises", "either"])
        ax.set(xlabel="input", ylabel="output", title="Proved" if self.proven else "Not proved")
        return ax

    def to_dict(self) -> dict[str, Any]:
        """The proof as plain values, to be kept beside a model: it holds on all of the input space."""
        return {
            "proven": self.proven, "obstacle": self.obstacle, "wanted": list(self.wanted),
            "directions": [list(row) for row in self.directions], "steps": list(self.steps),
        }  # fmt: skip


def _word(row: Sequence[int]) -> str:
    words = {1: "rises", -1: "falls", 0: "no influence", 2: "either way"}
    return ", ".join(words[d] for d in dict.fromkeys(row))


def certify(model: nn.Module, monotonicity: Sequence[int]) -> MonotonicityProof:
    """Prove that a network never falls along inputs of direction 1 and never rises along those of direction -1.

    The network's graph is traced and the signs of its weights followed from the inputs to the outputs: a sum of
    features that rise rises, a unit with a rising activation keeps its feature's direction. That is sufficient, not
    necessary: a network may be monotonic and not be proved so. Batch normalisation is taken in evaluation mode.

    Args:
        model: maps [batch, inputs] to [batch, outputs]; the parts known are linear layers, activations that rise,
            batch normalisation, dropout, our monotonic layers, and sums, concatenations and selections of features.
        monotonicity: 1, -1 or 0 (nothing is asked) for each input.

    Returns:
        The proof, or the first part at which it fails. The model is only read.
    """
    inputs = len(monotonicity)
    wanted = tuple(int(t) for t in monotonicity)
    try:
        with evaluation(model):
            graph = _Tracer().trace(model)
    except Exception as error:  # whatever the user's forward raises under tracing
        reason = str(error).strip().partition("\n")[0]
        return _refusal(wanted, f"the model's forward cannot be traced ({reason})")
    values: dict[fx.Node, Any] = {}
    steps: list[str] = []
    culprit: dict[int, str] = {}
    for node in graph.nodes:
        try:
            found = _passed(model, node, values, inputs)
        except (TypeError, ValueError, IndexError, RuntimeError, KeyError) as error:
            return _refusal(wanted, f"{_name(model, node)} ({error})", steps)
        values[node] = found
        if isinstance(found, Moves):
            for i in range(inputs):
                if i not in culprit and bool(found.up[i].any() and found.down[i].any()):
                    culprit[i] = _name(model, node)
            steps.append(f"{_name(model, node)}: {_held(found, wanted)}")
    result = values[next(iter(reversed(graph.nodes)))]
    if not isinstance(result, Moves):
        return _refusal(wanted, "the model's output is not a tensor of features", steps)
    table = result.up.int() - result.down.int() + 2 * (result.up & result.down).int()
    directions = tuple(tuple(int(v) for v in row) for row in table)
    for i, t in enumerate(wanted):
        if t and any(d not in (0, t) for d in directions[i]):
            part = culprit.get(i, "the output, which moves the other way")
            return MonotonicityProof(False, f"input {i} is lost at {part}", wanted, directions, tuple(steps))
    return MonotonicityProof(True, "", wanted, directions, tuple(steps))


def _refusal(wanted: tuple[int, ...], reason: str, steps: Sequence[str] = ()) -> MonotonicityProof:
    return MonotonicityProof(False, reason, wanted, tuple((2,) for _ in wanted), tuple(steps))


def _held(moves: Moves, wanted: Sequence[int]) -> str:
    rows = [i for i, t in enumerate(wanted) if t]
    mixed = [i for i in rows if bool(moves.up[i].any() and moves.down[i].any())]
    return f"inputs {mixed} move its features both ways" if mixed else "each held input moves its features one way"


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Our own layers are parts, as torch's are."""
        return isinstance(m, OURS) or super().is_leaf_module(m, module_qualified_name)


def _name(model: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(model.get_submodule(str(node.target))).__name__})"
    return str(getattr(node.target, "__name__", node.target))


def _passed(model: nn.Module, node: fx.Node, values: dict[fx.Node, Any], inputs: int) -> Any:
    """What is known of a node's result; raises where nothing is."""
    if node.op == "placeholder":
        eye = torch.eye(inputs, dtype=torch.bool)
        return Moves(eye, torch.zeros_like(eye))
    args = fx.map_arg(node.args, lambda n: values[n])
    if node.op == "output":
        return args[0]
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(model)
    if node.op == "call_module":
        if not isinstance(args[0], Moves):
            raise TypeError("works on something that is not a feature")
        return module_moves(model.get_submodule(str(node.target)), args[0])
    if not any(isinstance(a, Moves) for a in [*args, *(args[0] if args and isinstance(args[0], list | tuple) else ())]):
        raise TypeError("works on something that is not a feature")
    kwargs = fx.map_arg(node.kwargs, lambda n: values[n])
    return _called(node.target, args, kwargs)


def _called(target: Any, args: Any, kwargs: Any) -> Any:
    """Functions and methods of tensors."""
    if target in (operator.add, torch.add, "add", operator.iadd):
        a, b = args[:2]
        return a.plus(b) if isinstance(a, Moves) and isinstance(b, Moves) else a if isinstance(a, Moves) else b
    if target in (operator.neg, torch.neg, "neg"):
        return Moves(args[0].down, args[0].up)
    if target in (operator.sub, torch.sub, "sub"):
        a, b = args[:2]
        turned = Moves(b.down, b.up) if isinstance(b, Moves) else None
        return turned if not isinstance(a, Moves) else a if turned is None else a.plus(turned)
    if target in (operator.mul, torch.mul, "mul", operator.truediv, torch.div, "div"):
        a, b = args[:2] if isinstance(args[0], Moves) else args[1::-1]
        if isinstance(b, Moves):
            raise TypeError("multiplies features with one another")
        sign = torch.as_tensor(b).detach().float().sign().cpu()
        features = sign.expand(a.up.shape[1]) if sign.dim() < 2 else sign.reshape(-1)
        return a.through(torch.diag(features))
    if target in (torch.cat, "cat", torch.concat):
        parts = args[0]
        return Moves(torch.cat([p.up for p in parts], 1), torch.cat([p.down for p in parts], 1))
    if target is operator.getitem:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        last = index[-1]
        if len(index) < 2 or isinstance(last, Moves):
            raise TypeError("selects rows, not features")
        return args[0].map(lambda t: t[:, last] if not isinstance(last, int) else t[:, last : last + 1])
    if target in RISING_FUNCTIONS or target in RISING_METHODS:
        return args[0]
    if target in ("long", "int"):
        return args[0].unknown()
    raise TypeError("is of no kind that is known to be monotonic")


def module_moves(module: nn.Module, moves: Moves) -> Moves:
    """What a part of a network makes of its inputs' moves.

    Raises:
        TypeError: the part is of no known kind.
    """
    if isinstance(module, MonotonicLinear):
        return moves.through(module.constrained_weight().detach().cpu().T)
    if isinstance(module, InputUnits):
        weight = module.constrained_weight().detach().cpu()
        spread = torch.block_diag(*weight[:, None])
        return moves.through(spread)
    if isinstance(module, MonotonicKANLinear):
        signs = module.directions.detach().cpu().T.float()
        free = moves.unknown().through((signs == 0).float())
        held = moves.through(signs)
        return Moves(held.up | free.up, held.down | free.up)
    if isinstance(module, nn.Linear):
        return moves.through(module.weight.detach().cpu().T)
    if isinstance(module, nn.BatchNorm1d):
        scale = torch.ones(module.num_features) if module.weight is None else module.weight.detach().cpu()
        return moves.through(torch.diag(scale))
    if isinstance(module, nn.LeakyReLU) and module.negative_slope < 0:
        return moves.unknown()
    if isinstance(module, RISING):
        return moves
    if isinstance(module, nn.Embedding):
        either = moves.unknown()
        return either.map(lambda t: t.any(1, keepdim=True).expand(-1, module.embedding_dim))
    if isinstance(module, nn.GELU | nn.SiLU | nn.Mish | nn.Hardswish):
        return moves.unknown()
    if isinstance(module, nn.LayerNorm | nn.Softmax | nn.GroupNorm):
        return moves.mixed()
    raise TypeError("is of no kind that is known to be monotonic")
