"""Binary masks over weights: pruned weights stay exactly zero under any optimizer."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurarium.training import Handle, buffer_key, on_step, unwrap_optimizer

PRUNABLE = (nn.Linear, nn.modules.conv._ConvNd)
PACKED: dict[type[nn.Module], tuple[str, ...]] = {
    nn.MultiheadAttention: ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
    nn.RNNBase: ("weight_*",),
    nn.RNNCellBase: ("weight_*",),
    nn.Bilinear: ("weight",),
}
"""Layers that hold matrices of their own -> names or patterns of these."""


def prunable(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The weight matrices and kernels of a network, by parameter name, in the order of definition.

    Those of linear and convolutional layers (transformers' ``Conv1D`` too), the projections of attention, packed or
    not, recurrent and bilinear layers. Biases, embeddings and the parameters of normalisation layers are never among
    them; a weight shared by several layers appears once, one shared with an embedding too.

    Args:
        model: any module.
        exclude: module or parameter names, or shell patterns (``"*.shortcut.*"``), to leave out.

    Raises:
        ValueError: nothing is left to prune, or a pattern matches no prunable weight.

    Warns:
        UserWarning: a weight that another mechanism computes (``torch.nn.utils.parametrize``, ``prune``) is left out.
    """
    found: dict[str, nn.Parameter] = {}
    computed: list[str] = []
    for name, module in model.named_modules():
        for own in _weights_of(module):
            place, weight = f"{name}.{own}" if name else own, module._parameters.get(own)
            if weight is None and isinstance(getattr(module, own, None), Tensor):
                computed.append(place)
            elif weight is not None and all(weight is not other for other in found.values()):
                found[place] = weight
    if computed:
        warnings.warn(f"left out, because another mechanism computes them: {', '.join(computed)}", stacklevel=2)
    if not found:
        raise ValueError("the model has no linear or convolutional weights to prune")
    for pattern in exclude:
        hits = [n for n in found if fnmatchcase(n, pattern) or fnmatchcase(n.rpartition(".")[0], pattern)]
        if not hits:
            raise ValueError(f"exclude={pattern!r} matches no prunable layer; they are {', '.join(found)}")
        for name in hits:
            del found[name]
        if not found:
            raise ValueError("exclude leaves no weight to prune")
    return found


def _weights_of(module: nn.Module) -> list[str]:
    """Names of a module's own matrices and kernels."""
    if isinstance(module, PRUNABLE) or type(module).__name__ == "Conv1D":
        return ["weight"]
    patterns = next((names for kind, names in PACKED.items() if isinstance(module, kind)), ())
    own = [*module._parameters, *getattr(module, "parametrizations", ())]
    return [name for name in own if any(fnmatchcase(name, pattern) for pattern in patterns)]


def largest(scores: Float[Tensor, "*shape"], count: int, among: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Mark the ``count`` entries with the largest scores, choosing only ``among`` the marked ones.

    Equal scores go to the entry that comes first in memory order, so the result never depends on the machine.

    Args:
        scores: one number per entry.
        count: how many to mark, at most as many as ``among`` marks.
        among: the candidates.

    Raises:
        ValueError: a candidate's score is not finite, or there are fewer candidates than ``count``.
    """
    candidates = among.flatten().nonzero().squeeze(1)
    if not 0 <= count <= len(candidates):
        raise ValueError(f"count must be between 0 and the {len(candidates)} candidates, not {count}")
    values = scores.detach().flatten()[candidates]
    if not bool(torch.isfinite(values).all()):
        raise ValueError("scores must be finite; did the training diverge?")
    order = torch.sort(values, descending=True, stable=True).indices[:count]
    marked = torch.zeros(among.numel(), dtype=torch.bool, device=among.device)
    marked[candidates[order]] = True
    return marked.view_as(among)


class Masks(nn.Module):
    """One boolean mask per weight; True keeps, False prunes.

    The masks are buffers, so ``state_dict`` holds them and ``load_state_dict`` brings them back. The weights
    themselves are only referred to: they stay the model's own, and the model's ``state_dict`` stays plain.
    Indexing by parameter name gives a mask that may be changed in place; call `zero_weights` afterwards.

    Args:
        parameters: the weights to mask, by name (`prunable` collects them from a model).

    Raises:
        ValueError: there are no parameters.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        if not parameters:
            raise ValueError("parameters must name at least one weight to mask")
        self.targets: dict[str, nn.Parameter] = dict(parameters)
        for name, weight in parameters.items():
            self.register_buffer(buffer_key(name), torch.ones_like(weight, dtype=torch.bool))
        self._factors: list[Tensor] = []
        self._factors_of: tuple[Any, ...] = ()

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(buffer_key(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Weights kept and weights in all, per parameter."""
        return {name: (int(self[name].sum()), self[name].numel()) for name in self}

    @property
    def density(self) -> float:
        """Share of the masked weights that are kept, ``‖m‖₀ / |θ|``."""
        counts = self.counts().values()
        return sum(kept for kept, _ in counts) / sum(total for _, total in counts)

    def keep(self, masks: Mapping[str, Tensor]) -> None:
        """Replace some masks and set the weights they prune to zero.

        Raises:
            ValueError: a mask's shape is not its weight's.
        """
        for name, mask in masks.items():
            if mask.shape != self[name].shape:
                raise ValueError(
                    f"the mask of {name} must have shape {tuple(self[name].shape)}, not {tuple(mask.shape)}"
                )
            self[name].copy_(mask)
        self.zero_weights()

    @torch.no_grad()
    def zero_weights(self) -> None:
        """Multiply every weight by its mask."""
        torch._foreach_mul_(list(self.targets.values()), self._multipliers())

    @torch.no_grad()
    def zero_gradients(self) -> None:
        """Multiply every gradient by its mask. `attach` does so before each step; call it before clipping by norm."""
        pairs = [(w.grad, m) for w, m in zip(self.targets.values(), self._multipliers()) if w.grad is not None]
        if pairs:
            torch._foreach_mul_([gradient for gradient, _ in pairs], [mask for _, mask in pairs])

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Hold the masks through every step of an optimizer.

        The gradients are masked as backward passes make them, so that ``clip_grad_norm_`` does not count those of
        pruned weights, and once more before a step (a rule may write gradients without a backward pass): momenta and
        second moments of pruned weights stay zero. After a step the weights are masked, so that nothing else (a
        momentum from before, a proximal term) brings them back. Weights are masked at once, too. An optimizer that
        asks a closure for the loss (L-BFGS does so many times in a step) gets masked weights and gradients each time.

        Returns:
            A handle: call its ``remove()`` or use it in a ``with`` statement.

        Raises:
            ValueError: the optimizer holds none of the masked weights.
        """
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(weight) in held for weight in self.targets.values()):
            raise ValueError(
                "the optimizer holds none of the masked weights; build it from the same model's parameters"
            )
        self.zero_weights()
        handle = on_step(optimizer, lambda _: self.zero_gradients(), lambda _: self.zero_weights())
        handle.add(unwrap_optimizer(optimizer).register_step_pre_hook(self._masked_closure).remove)
        for place, weight in enumerate(self.targets.values()):
            if weight.requires_grad:
                hook = functools.partial(self._mask_gradient, place)
                handle.add(weight.register_post_accumulate_grad_hook(hook).remove)
        return handle

    def _mask_gradient(self, place: int, weight: Tensor) -> None:
        if weight.grad is not None:
            weight.grad.mul_(self._multipliers()[place])

    def _masked_closure(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A line search moves the weights between two calls of its closure."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            return None

        def held() -> Any:
            self.zero_weights()
            return closure()

        return (args[0], held, *args[2:]), {key: value for key, value in kwargs.items() if key != "closure"}

    def extra_repr(self) -> str:
        return f"{len(self)} weights, density={self.density:.4f}"

    def _multipliers(self) -> list[Tensor]:
        """The masks in the weights' dtypes (seven times as fast as boolean factors), renewed when a mask changes."""
        masks = [self[name] for name in self]
        weights = list(self.targets.values())
        state = tuple((id(m), m._version, w.dtype, w.device) for m, w in zip(masks, weights))
        if state != self._factors_of:
            self._factors = [m.to(device=w.device, dtype=w.dtype) for m, w in zip(masks, weights)]
            self._factors_of = state
        return self._factors
