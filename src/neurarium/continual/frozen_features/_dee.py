"""Differentiable ensembles: a bank of linear experts behind a soft gate, learned class by class in one pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.continual._settings import check_settings, settings
from neurarium.continual._strategy import Strategy
from neurarium.layers import soft_topk
from neurarium.learning import sign_descent_
from neurarium.models import FrozenEncoder

GATES = ("soft", "hard", "all")


class DifferentiableEnsemble(Strategy):
    """Linear experts, each with a key in the encoder's space; those whose keys are near an input vote (DE&E).

    Wójcik et al., 2022. A batch raises the true class's score of the chosen experts by sign descent and nothing else:
    rows of other classes get no gradient, so nothing that was learned about them changes. Each example is seen once, no
    task is ever named, and no example is kept. Expert j scores tau tanh((W_j z + b_j) / tau); with memberships a and
    cosines s the vote is sum_j o_j a_j (s_j a_j) / sum_j s_j a_j.

    It learns by ``observe`` alone. Classes are indices from 0 and may appear at any time. What a class gains in all is
    about ``lr`` times its number of batches, and should come to 0.1.

    Args:
        encoder: module, function, object with ``encode``, `FrozenEncoder`, or None for inputs that are features.
        num_classes: refuse labels from here on; None lets the number grow.
        num_experts: N.
        k: experts that vote; may be fractional with the soft gate.
        gate: ``"soft"``: `soft_topk`, with keys that learn; ``"hard"``: the k nearest keys, which stay as they are
            (E&E: Shanahan et al., 2021); ``"all"``: equal votes of all experts.
        tau: experts' scores stay between -tau and tau.
        eps: entropy of the soft gate.
        cutoff: memberships below count as 0.
        lr: step of the experts.
        key_lr: Adam's rate for the keys; 0 keeps them as they were drawn, as the released code does.
        weight_decay: of the entries that are stepped; the released code has -1e-4.
        balance: step by ``balance`` over the number of the class's batches so far, instead of ``lr``: in all it is
            ``balance`` (1 + 1/2 + 1/3 ...), so that classes of any size gain about as much (0.03 suits 10 to 1,000).
        center: subtract the running mean of the features before cosines are taken, for features that all point one way.
        generator: of keys and first weights; by default one of its own, seeded from torch's global state. Its state is
            saved with what was learned, so that a class that is new after a checkpoint starts as it would have.

    Warns:
        UserWarning: the encoder is in training mode with parameters that require gradients; it will not train.

    Raises:
        ValueError: an argument out of range.
    """

    weight: Tensor
    bias: Tensor
    keys: Tensor
    moments: Tensor
    key_steps: Tensor
    mean: Tensor
    seen: Tensor
    batches: Tensor
    routed: Tensor

    def __init__(
        self,
        encoder: nn.Module | Callable[[Any], Any] | None = None,
        *,
        num_classes: int | None = None,
        num_experts: int = 128,
        k: float = 16,
        gate: str = "soft",
        tau: float = 250.0,
        eps: float = 5e-4,
        cutoff: float = 0.3,
        lr: float = 1e-4,
        key_lr: float = 5e-5,
        weight_decay: float = 1e-4,
        balance: float | None = None,
        center: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        training = isinstance(encoder, nn.Module) and not isinstance(encoder, FrozenEncoder) and encoder.training
        if training and any(p.requires_grad for p in encoder.parameters()):  # type: ignore[union-attr]
            warnings.warn("encoder was set to train: it is frozen from here on", stacklevel=2)
        super().__init__(encoder if isinstance(encoder, FrozenEncoder) else FrozenEncoder(encoder))
        if gate not in GATES:
            raise ValueError(f"gate must be one of {', '.join(GATES)}, not {gate!r}")
        if gate != "all" and not 0 < k < num_experts:
            raise ValueError(f"k must be smaller than num_experts ({num_experts}) and positive, not {k}")
        if gate == "hard" and k != int(k):
            raise ValueError(f"the hard gate chooses a whole number of experts, not {k}")
        if min(tau, eps, lr) <= 0 or key_lr < 0:
            raise ValueError(f"tau, eps and lr must be positive, key_lr not negative, not {tau}, {eps}, {lr}, {key_lr}")
        self.num_classes, self.num_experts, self.k, self.gate = num_classes, num_experts, k, gate
        self.tau, self.eps, self.cutoff = tau, eps, cutoff
        self.lr, self.key_lr, self.weight_decay, self.balance = lr, key_lr, weight_decay, balance
        self.center = center
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.generator = generator
        self.register_buffer("weight", torch.empty(num_experts, 0, 0))
        self.register_buffer("bias", torch.empty(num_experts, 0))
        self.register_buffer("keys", torch.empty(num_experts, 0))
        self.register_buffer("moments", torch.zeros(2, num_experts, 0))  # Adam's, of the keys
        self.register_buffer("key_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("routed", torch.zeros(0, num_experts))

    # Learning

    @torch.no_grad()
    def observe(self, x: Any, y: Tensor) -> None:
        """Learn a batch, once.

        Raises:
            ValueError: features that are not finite or of another size than before, a label out of range.
        """
        z = self._checked(self.model(x))
        y = y.to(z.device).long()
        if len(y) != len(z):
            raise ValueError(f"x has {len(z)} examples but y has {len(y)} labels")
        classes = sorted(set(y.tolist()))
        self._make_room(z, classes)
        if self.center:
            self.mean += (z - self.mean).sum(0) / (self.seen + len(z))
        self.seen += len(z)
        keys = self.keys.clone().requires_grad_(self.gate == "soft" and self.key_lr > 0)
        with torch.enable_grad():
            distance, membership, votes = self._gate(z, keys)
        scores = z.new_empty(len(z), self.num_experts)
        for c in classes:
            rows = (y == c).nonzero().flatten()
            own = z[rows]
            known = torch.addmm(self.bias[:, c], own, self.weight[:, c].T).div_(self.tau).tanh_()
            scores[rows] = self.tau * known
            pull = votes.detach()[rows] * (1 - known.square()) / -len(z)
            lr = self.lr if self.balance is None else self.balance / float(self.batches[c] + 1)
            sign_descent_(self.weight[:, c], pull.T @ own, lr, self.weight_decay)
            sign_descent_(self.bias[:, c], pull.sum(0), lr, self.weight_decay)
            self.batches[c] += 1
            self.routed[c] += membership.detach()[rows].sum(0)
        if keys.requires_grad:
            with torch.enable_grad():
                loss = ((distance * membership) - votes * scores).sum() / len(z)
            self._step_keys(torch.autograd.grad(loss, keys)[0])

    def _gate(self, z: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances of inputs and keys, memberships, and the weight of each expert's score in the vote."""
        if self.gate == "all":
            equal = z.new_full((len(z), self.num_experts), 1 / self.num_experts)
            return torch.zeros_like(equal), torch.ones_like(equal), equal
        cosine = nn.functional.normalize(z - self.mean if self.center else z, dim=1) @ keys.T
        if self.gate == "hard":
            chosen = torch.zeros_like(cosine).scatter_(1, cosine.topk(int(self.k)).indices, 1.0)
        else:
            chosen = soft_topk(1 - cosine, float(self.k), eps=self.eps)
            chosen = chosen * (chosen >= self.cutoff)
        nearness = cosine.detach() * chosen
        total = nearness.sum(1, keepdim=True)
        votes = chosen * nearness / torch.where(total.abs() < 1e-12, 1e-12, total)
        return 1 - cosine, chosen, votes

    def _step_keys(self, gradient: Tensor) -> None:
        """Adam with its usual constants; its moments are buffers, so that a checkpoint has them."""
        self.key_steps += 1
        steps = int(self.key_steps)
        self.moments[0].lerp_(gradient, 0.1)
        self.moments[1].lerp_(gradient.square(), 0.001)
        corrected = (self.moments[1] / (1 - 0.999**steps)).sqrt_().add_(1e-8)
        self.keys -= (self.key_lr * self.moments[0]).div_(1 - 0.9**steps).div_(corrected)

    def _make_room(self, z: Tensor, classes: list[int]) -> None:
        """Keys at the first batch, rows for classes (ascending) that are new; nothing that exists changes."""
        low, high = classes[0], classes[-1]
        if low < 0 or (self.num_classes is not None and high >= self.num_classes):
            limit = "" if self.num_classes is None else f" and below num_classes ({self.num_classes})"
            raise ValueError(f"labels must be at least 0{limit}, not {low if low < 0 else high}")
        if not self.keys.numel():
            features = z.shape[1]
            self.keys = nn.functional.normalize(self._normal(z, self.num_experts, features), dim=1)
            self.moments = z.new_zeros(2, self.num_experts, features)
            self.mean = z.new_zeros(features)
            self.weight = z.new_empty(self.num_experts, 0, features)
            for name in ("key_steps", "seen", "batches", "routed"):
                setattr(self, name, getattr(self, name).to(z.device))
        new = high + 1 - self.weight.shape[1]
        if new > 0:
            rows, offsets = self._fresh(z, new)
            self.weight = torch.cat([self.weight, rows], 1)
            self.bias = torch.cat([self.bias.to(z), offsets], 1)
            self.batches = torch.cat([self.batches, self.batches.new_zeros(new)])
            self.routed = torch.cat([self.routed, self.routed.new_zeros(new, self.num_experts)])

    def _normal(self, like: Tensor, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(like)

    def _fresh(self, like: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """First weights (normal, cut at two deviations) and biases (uniform) of classes, both of size 1/sqrt(D)."""
        features = self.keys.shape[1]
        rows = torch.empty(self.num_experts, classes, features)
        nn.init.trunc_normal_(rows, generator=self.generator)
        offsets = 2 * torch.rand(self.num_experts, classes, generator=self.generator) - 1
        return rows.to(like) / features**0.5, offsets.to(like) / features**0.5

    @torch.no_grad()
    def forget_class(self, label: int) -> None:
        """Delete what is known of a class, as if it had not been learned; others do not change.

        Raises:
            ValueError: the class was never observed.
        """
        if not (0 <= label < len(self.batches) and self.batches[label]):
            raise ValueError(f"class {label} was never observed")
        rows, offsets = self._fresh(self.weight, 1)
        self.weight[:, label], self.bias[:, label] = rows[:, 0], offsets[:, 0]
        self.batches[label], self.routed[label] = 0, 0

    # Predicting

    @torch.no_grad()
    def predict(self, x: Any) -> Float[Tensor, "batch classes"]:
        """Votes with column c for class c, minus infinity for an index that was not observed.

        Raises:
            ValueError: nothing was observed; features that are not finite or of another size.
        """
        if not self.batches.any():
            raise ValueError("no class has been observed yet")
        z = self._checked(self.model(x))
        votes = self._gate(z, self.keys)[2]
        scores = torch.einsum("bd,ncd->bnc", z, self.weight).add_(self.bias)
        voted = torch.einsum("bn,bnc->bc", votes, scores.div_(self.tau).tanh_()) * self.tau
        return voted.masked_fill(self.batches == 0, -torch.inf)

    @torch.no_grad()
    def confidence(self, x: Any) -> Float[Tensor, " batch"]:
        """Lead of the best class over the second, in [0, 1]: (o1 - o2) / (2 tau); 1 while only one class is known."""
        scores = self.predict(x)
        if int((self.batches > 0).sum()) < 2:
            return scores.new_ones(len(scores))
        best = scores.topk(2, dim=1).values
        return (best[:, 0] - best[:, 1]) / (2 * self.tau)

    @torch.no_grad()
    def routing(self, x: Any) -> Float[Tensor, "batch experts"]:
        """Membership of every expert for inputs."""
        return self._gate(self._checked(self.model(x)), self.keys)[1]

    def usage(self) -> Float[Tensor, "classes experts"]:
        """For each class, the share of its training examples' memberships that went to each expert."""
        return self.routed / self.routed.sum(1, keepdim=True).clamp_min(1e-12)

    def experts_used(self) -> float:
        """exp of the entropy of the experts' shares over all examples: how many experts do the work."""
        share = self.routed.sum(0) / self.routed.sum().clamp_min(1e-12)
        return float(torch.special.entr(share).sum().exp())

    # Inside

    def _checked(self, features: Tensor) -> Tensor:
        features = features if features.is_floating_point() else features.float()
        if not bool(features.isfinite().all()):
            bad = (~features.isfinite().all(1)).nonzero().flatten()
            raise ValueError(f"features of {len(bad)} examples are not finite, the first at index {int(bad[0])}")
        if self.keys.numel() and features.shape[1] != self.keys.shape[1]:
            raise ValueError(f"features must have {self.keys.shape[1]} values as before, not {features.shape[1]}")
        return features

    def get_extra_state(self) -> dict[str, Any]:
        """The settings, and the state of the draws."""
        return {"settings": settings(self), "generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with the draws; a generator that was given is left alone.

        Raises:
            ValueError: the ensemble that was saved had other settings.
        """
        check_settings(self, state["settings"])
        self.generator = torch.Generator(self.generator.device)
        self.generator.set_state(state["generator"].cpu())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("weight", "bias", "keys", "moments", "mean", "batches", "routed"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.weight.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
