"""A layer of several experts, of which each token uses a few."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurarium.layers.mixture._routing import Routing, route_soft, route_top_k
from neurarium.training import evaluation

ROUTERS = ("top_k", "soft")


class MixtureOfExperts(nn.Module):
    """Any modules from width to width in one place, and a linear router that shares tokens out among them.

    "top_k": each token goes to the ``top_k`` experts that score highest for it, whose outputs are summed with their
    probabilities, brought to sum 1. No token is dropped, and no expert has a limit. "soft": every expert maps ``slots``
    mixtures of a sequence's tokens, and each token gets a mixture of what they give; tokens then know of each other.

    Without a balance, "top_k" may starve experts: `neurarium.objectives.load_balance` is a penalty against it.

    Args:
        experts: modules [..., d_model] -> [..., d_model]; for "soft" as for "top_k".
        d_model: width of a token.
        router: "top_k" or "soft".
        top_k: experts for each token.
        slots: mixtures for each expert, of the "soft" router.
        balance: weight of this layer in `load_balance`; 0 for none. The layer then holds its last tokens while in
            training.
        causal: the layer stands where a token must not know of later ones: "soft" is refused.

    Shape:
        x: [..., d_model], for "soft" [batch, tokens, d_model]; output: the same.

    Raises:
        ValueError: no experts, an unknown router, ``top_k`` above their number, experts of another width, or a "soft"
            router in a causal place.
    """

    def __init__(
        self,
        experts: Sequence[nn.Module],
        d_model: int,
        router: str = "top_k",
        top_k: int = 2,
        slots: int = 1,
        balance: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if not experts:
            raise ValueError("experts must be at least one module")
        if router not in ROUTERS:
            raise ValueError(f"router must be one of {', '.join(ROUTERS)}, not {router!r}")
        if router == "top_k" and not 1 <= top_k <= len(experts):
            raise ValueError(f"top_k must be between 1 and the number of experts, {len(experts)}, not {top_k}")
        if slots < 1 or balance < 0:
            raise ValueError("slots must be at least 1 and balance not negative")
        if router == "soft" and causal:
            raise ValueError("a soft router mixes all tokens of a sequence, which a causal place forbids: use top_k")
        if router == "soft" and balance:
            raise ValueError("balance is for top_k: a soft router uses all experts alike")
        _check_widths(experts, d_model)
        self.d_model, self.router, self.top_k, self.slots, self.balance = d_model, router, top_k, slots, balance
        self.experts = nn.ModuleList(experts)
        like = next((p for expert in experts for p in expert.parameters()), torch.empty(0))
        kind = like.dtype if like.is_floating_point() else None
        size = len(experts) * (slots if router == "soft" else 1)
        self.gate = nn.Linear(d_model, size, bias=False, device=like.device, dtype=kind)
        self._tokens: Tensor | None = None

    def route(self, x: Float[Tensor, "*batch d_model"]) -> Routing:
        """What the router says of some tokens, with its graph; for "soft" each expert's part in the tokens' outputs."""
        if self.router == "top_k":
            return route_top_k(self.gate(x.reshape(-1, self.d_model)), self.top_k)
        _, combine = route_soft(self._slot_logits(x))
        parts = combine.flatten(0, 1).unflatten(1, (len(self.experts), self.slots)).sum(2)
        everyone = torch.arange(parts.shape[1], device=parts.device).expand(parts.shape)
        return Routing(parts, everyone, parts)

    def forward(
        self, x: Float[Tensor, "*batch d_model"], padding_mask: Bool[Tensor, ...] | None = None
    ) -> Float[Tensor, "*batch d_model"]:
        """The experts' answers.

        Args:
            x: tokens.
            padding_mask: True for tokens that are only padding: they go to no expert, change nothing, and get 0.

        Raises:
            ValueError: tokens of another width, a mask of another shape, or no sequence for a "soft" router.
        """
        if x.shape[-1] != self.d_model:
            raise ValueError(f"tokens must be {self.d_model} wide, not {x.shape[-1]}")
        if padding_mask is not None and padding_mask.shape != x.shape[:-1]:
            raise ValueError(f"padding_mask must be {list(x.shape[:-1])}, not {list(padding_mask.shape)}")
        if self.router == "soft":
            return self._soft(x, padding_mask)
        tokens = x.reshape(-1, self.d_model)
        there = None if padding_mask is None else (~padding_mask).flatten().nonzero().flatten()
        given = tokens if there is None else tokens[there]
        self._tokens = given.detach() if self.training and self.balance else None
        output = self._top_k(given)
        if there is not None:
            output = torch.zeros_like(tokens, dtype=output.dtype).index_copy(0, there, output)
        return output.view(x.shape)

    def penalty(self) -> Float[Tensor, ""]:
        """``balance`` times the imbalance of the last tokens of the training; its gradient reaches the router alone.

        Raises:
            RuntimeError: there was no such pass.
        """
        if self._tokens is None:
            raise RuntimeError("penalty needs a pass in training mode first, and a balance above 0")
        return self.balance * self.route(self._tokens).imbalance()

    def _top_k(self, tokens: Tensor) -> Tensor:
        """Tokens sorted by expert once, each expert on its part, then back in their order."""
        routing = self.route(tokens)
        order = routing.chosen.flatten().argsort(stable=True)
        counts = torch.bincount(routing.chosen.flatten(), minlength=len(self.experts)).tolist()
        parts = (tokens[order // self.top_k]).split(counts)
        # an expert without tokens gets none of them rather than no call: its gradients are 0 and not None, as
        # data-parallel training wants them
        called = [e(part) for e, part in zip(self.experts, parts, strict=True) if len(part) or torch.is_grad_enabled()]
        answers = torch.cat(called) if called else tokens.new_zeros(0, self.d_model)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        answers = answers[back].unflatten(0, (-1, self.top_k))
        return (answers * routing.gates.to(answers.dtype)[..., None]).sum(1)

    def _soft(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        x = x if padding_mask is None else x.masked_fill(padding_mask[..., None], 0.0)
        dispatch, combine = route_soft(self._slot_logits(x), padding_mask)
        given = dispatch.to(x.dtype).mT @ x
        parts = given.unflatten(1, (len(self.experts), self.slots)).unbind(1)
        answers = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)], 1)
        return combine.to(answers.dtype) @ answers

    def _slot_logits(self, x: Tensor) -> Tensor:
        if x.dim() != 3:
            raise ValueError(f"a soft router mixes sequences [batch, tokens, {self.d_model}], not {list(x.shape)}")
        logits: Tensor = self.gate(x)
        return logits

    def extra_repr(self) -> str:
        how = f"top_k={self.top_k}" if self.router == "top_k" else f"slots={self.slots}"
        return f"d_model={self.d_model}, router={self.router!r}, {how}"


@torch.no_grad()
def _check_widths(experts: Sequence[nn.Module], d_model: int) -> None:
    """Each expert on one token of zeros."""
    for i, expert in enumerate(experts):
        like = next((p for p in expert.parameters() if p.is_floating_point()), torch.zeros(0))
        if like.is_meta:
            continue  # nothing is computed there
        token = torch.zeros(1, d_model, device=like.device, dtype=like.dtype)
        try:
            with evaluation(expert), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                width = expert(token).shape[-1]
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"expert {i} refuses a token [1, {d_model}]: {error}") from error
        if width != d_model:
            raise ValueError(f"expert {i} gives {width} numbers for a token of {d_model}")
