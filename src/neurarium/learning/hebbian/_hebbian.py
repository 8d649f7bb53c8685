"""Soft winner-take-all Hebbian learning of linear and convolutional layers: no labels, no error, no backward pass."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import grad

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLVE = {
    1: (F.conv1d, grad.conv1d_weight),
    2: (F.conv2d, grad.conv2d_weight),
    3: (F.conv3d, grad.conv3d_weight),
}  # by spatial dimensions


@torch.no_grad()
def soft_hebbian_update(
    weight: Float[Tensor, "neurons inputs"],
    patches: Float[Tensor, "patches inputs"],
    temperature: float = 1.0,
    competition: str = "soft",
) -> Float[Tensor, "neurons inputs"]:
    """Delta w_k = E[y_k (x - u_k w_k)] with u = W x and y = softmax(u / temperature) over the neurons.

    Each input moves the neurons it excites towards itself, in proportion to how far they win against the others; the
    second term draws their norm to 1. Where y does not vary, w_k tends to the direction of its inputs' mean (Moraitis
    et al., 2022; Oja's rule, which finds the first principal direction, has y = u instead).

    Args:
        weight: w_k in rows.
        patches: inputs x in rows.
        temperature: of the competition; towards 0 the winner takes all, towards infinity all learn alike.
        competition: ``"soft"``, or ``"hard"``: y is 1 for the neuron of largest u and 0 for the others.

    Raises:
        ValueError: shapes that do not fit, no patches, an unknown competition or a temperature that is not positive.
    """
    _check_competition(temperature, competition)
    if weight.dim() != 2 or patches.dim() != 2 or weight.shape[1] != patches.shape[1]:
        raise ValueError(
            "weight [neurons, inputs] and patches [patches, inputs] must have the same inputs, not shapes "
            f"{tuple(weight.shape)} and {tuple(patches.shape)}"
        )
    if len(patches) == 0:
        raise ValueError("patches is empty: give at least one input to learn from")
    towards, decay, count = _sums(patches[..., None], weight[..., None], temperature, competition)
    return (towards[..., 0] - decay[:, None] * weight) / count


class SoftHebbian:
    """The soft Hebbian rule for one layer of any model; every patch that a convolution sees is an input.

    ``assign_credit`` adds the *negative* update to the weight's ``.grad``, so that plain SGD with rate r makes
    w + r * Delta w of it. Biases do not learn and take no part in the competition.

    Args:
        module: `nn.Linear` or a convolution of 1, 2 or 3 dimensions, with its stride, padding, dilation and groups;
            channels of all groups compete at each position.
        temperature: of the competition.
        competition: ``"soft"`` or ``"hard"``.
        norm: ``"preserve"``: the rule acts on w_k / |w_k| and on patches of mean 0 and deviation 1 (a flat patch is
            0), the update is scaled by |w_k|, and ``rescale()`` puts back the norms that the kernels had when
            this object was made; trained layers are not of norm 1, and the layer above expects their scale.
            ``"plain"``: the rule as it is.

    Raises:
        TypeError: the module is none of these.
        ValueError: an argument out of range; a weight that is computed by a parametrisation; kernels of one weight with
            ``norm="preserve"``.
    """

    def __init__(
        self, module: nn.Module, *, temperature: float = 1.0, competition: str = "soft", norm: str = "preserve"
    ) -> None:
        if not isinstance(module, (nn.Linear, *CONVOLUTIONS)):
            raise TypeError(f"module must be a Linear or a convolution, not {type(module).__name__}")
        if "weight" not in module._parameters:
            raise ValueError("the module's weight is computed by a parametrisation: remove it first")
        if norm not in ("preserve", "plain"):
            raise ValueError(f"norm must be 'preserve' or 'plain', not {norm!r}")
        if norm == "preserve" and module.weight[0].numel() < 2:
            raise ValueError("norm='preserve' standardises patches and needs two weights per kernel: use norm='plain'")
        _check_competition(temperature, competition)
        self.module: Any = module
        self.temperature, self.competition, self.norm = temperature, competition, norm
        self.norms = module.weight.detach().flatten(1).norm(dim=1)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "batch ..."]) -> Tensor:
        """Delta w for a batch of the module's inputs, in the weight's shape; a mean over all patches.

        Patches are never laid out: u is a convolution, and the sum over patches of y x the weight gradient of one.

        Raises:
            ValueError: the batch is empty.
        """
        if x.numel() == 0:
            raise ValueError("x holds no example to learn from")
        module, weight = self.module, self.module.weight.detach()
        where: dict[str, Any] = {}
        if isinstance(module, nn.Linear):
            x, weight = x.flatten(0, -2)[..., None], weight[..., None]
        else:
            x = padded(module, x)
            where = {"stride": module.stride, "dilation": module.dilation, "groups": module.groups}
        preserve = self.norm == "preserve"
        length = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))
        kernels = weight / length.clamp_min(torch.finfo(weight.dtype).tiny) if preserve else weight
        towards, decay, count = _sums(x, kernels, self.temperature, self.competition, preserve, **where)
        change = (towards - decay.view_as(length) * kernels) / count
        return (change * length if preserve else change).view_as(module.weight)

    def assign_credit(self, x: Float[Tensor, "batch ..."]) -> None:
        """Add the negative update for a batch of the module's inputs to the weight's ``.grad``."""
        weight, change = self.module.weight, self.update(x)
        weight.grad = -change if weight.grad is None else weight.grad - change

    @torch.no_grad()
    def rescale(self) -> None:
        """With ``norm="preserve"``, give every kernel the norm it had when this object was made."""
        if self.norm == "preserve":
            weight = self.module.weight
            now = weight.flatten(1).norm(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)
            weight.mul_((self.norms.to(now) / now).view(-1, *[1] * (weight.dim() - 1)))


def padded(module: Any, x: Tensor) -> Tensor:
    """A convolution's input with its padding in place."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(x, module._reversed_padding_repeated_twice, mode=mode)


def _sums(
    x: Float[Tensor, "batch channels ..."],
    kernels: Float[Tensor, "neurons inputs ..."],
    temperature: float,
    competition: str,
    standardise: bool = False,
    **where: Any,
) -> tuple[Float[Tensor, "neurons inputs ..."], Float[Tensor, " neurons"], int]:
    """Sums over all patches of y_k x and of y_k u_k, and the number of patches.

    A patch of mean m and deviation s enters as (x - m) / s: u = (w . x - m sum(w)) / s, and the same for the sums.
    """
    convolve, weight_gradient = _CONVOLVE[x.dim() - 2]
    u = convolve(x, kernels, **where)
    spread = [1, -1] + [1] * (u.dim() - 2)
    if standardise:
        mean, inverse = (m.repeat_interleave(len(kernels) // m.shape[1], 1) for m in _moments(x, kernels, **where))
        u = (u - mean * kernels.flatten(1).sum(1).view(spread)) * inverse
    if competition == "hard":
        y = torch.zeros_like(u).scatter_(1, u.argmax(1, keepdim=True), 1)
    else:
        y = (u / temperature).softmax(1)
    others = [d for d in range(u.dim()) if d != 1]
    decay = (y * u).sum(others)
    if standardise:
        y = y * inverse
    towards = weight_gradient(x, kernels.shape, y, **where)
    if standardise:
        towards -= (y * mean).sum(others).view(-1, *[1] * (kernels.dim() - 1))
    return towards, decay, u.numel() // len(kernels)


def _moments(x: Tensor, kernels: Tensor, groups: int = 1, **where: Any) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of every patch [batch, groups, ...]; the inverse of a flat patch's is 0."""
    convolve, _ = _CONVOLVE[x.dim() - 2]
    inputs = kernels[0].numel()
    box = kernels.new_full((groups, 1, *kernels.shape[2:]), 1 / inputs)
    middle = x.mean()  # taken out first: squares of large values would hide a small deviation
    x = (x - middle).unflatten(1, (groups, -1))
    mean = convolve(x.sum(2), box, groups=groups, **where)
    square = convolve(x.square().sum(2), box, groups=groups, **where)
    variance = square - mean.square()
    flat = variance <= 1e-5 * square
    return mean + middle, variance.masked_fill(flat, 1).rsqrt().masked_fill(flat, 0)


def _check_competition(temperature: float, competition: str) -> None:
    if competition not in ("soft", "hard"):
        raise ValueError(f"competition must be 'soft' or 'hard', not {competition!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
