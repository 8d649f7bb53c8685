"""Initial weights from which a few gradient steps fit a new signal: MAML and Reptile, all signals in one batched pass.

Tancik et al., Learned Initializations for Optimizing Coordinate-Based Neural Representations, 2020; Finn et al., 2017
(MAML); Nichol et al., 2018 (Reptile).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_leaves, tree_map

from neurarium.search.learned_init._stacked_fields import StackedFields
from neurarium.training import prediction

Weights = dict[str, Tensor]


def squared_error(seen: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """Mean squared error.

    Raises:
        ValueError: the shapes differ.
    """
    if seen.shape != y.shape:
        raise ValueError(f"the sensor reads {tuple(seen.shape)} of a signal, but y has {tuple(y.shape)}")
    return (seen - y).square().mean()


class LearnedInitialization(nn.Module):
    """Learns the weights of a network so that few gradient steps suffice on each signal (or task) of a class.

    The inner loop goes from θ_0 = the network's weights by θ_{i+1} = θ_i - α ∇L(θ_i; signal), ``inner_steps`` times.
    `assign_credit` puts into ``.grad`` of θ_0, averaged over the signals: for "maml" the gradient of L(θ_m), through
    the steps; for "fomaml" that gradient as if the steps were constants; for "reptile" θ_0 - θ_m. With
    ``inner_steps=0`` MAML is joint training: for a squared error it fits the mean signal.

    The signals' networks are one batched pass. MAML keeps no graph of the steps, only the weights before each; going
    back, a Hessian-vector product at each of them takes the gradient through the step, so that memory does not grow
    with the number of steps by more than a copy of the weights.

    A signal has an input ``x`` and an observation ``y``. What a sensor reads of the field is ``observe(field, x)``, by
    default the field's values at the points x; ``ForwardMap.observe`` makes projections, masks and renderings of it.
    With ``loss=cross_entropy`` and a classifier for the field, signals are few-shot tasks.

    Attributes:
        field: the network, with the initial weights: ``field.state_dict()`` loads into a plain one.
        rates: inner learning rates, one for each trained parameter, in the order of ``names``; learned too (Meta-SGD,
            one rate per tensor) with ``learn_rates``.
        names: of the field's trained parameters; frozen ones stay as they are.

    Args:
        field: any network; changed in place by the optimizer that you make over ``parameters()``.
        inner_lr: α, or one for each parameter by its name.
        inner_steps: m.
        method: "maml", "fomaml" or "reptile". Reptile has no second derivatives, for large m; with m of 1 it is joint
            training.
        loss: ``loss(observed, y) -> scalar`` of one signal.
        observe: ``observe(field, x) -> readings`` of one signal.
        learn_rates: learn the inner rates as well; for MAML alone.

    Raises:
        ValueError: nothing to train; batch normalisation that would gather statistics; an unknown method or parameter;
            ``inner_steps`` below 0; rates that Reptile or first-order MAML cannot learn.
    """

    def __init__(
        self,
        field: nn.Module,
        inner_lr: float | Mapping[str, float] = 1e-2,
        inner_steps: int = 2,
        method: str = "maml",
        *,
        loss: Callable[[Tensor, Any], Tensor] = squared_error,
        observe: Callable[[Callable[[Any], Tensor], Any], Tensor] | None = None,
        learn_rates: bool = False,
    ) -> None:
        super().__init__()
        if method not in ("maml", "fomaml", "reptile"):
            raise ValueError(f"method must be 'maml', 'fomaml' or 'reptile', not {method!r}")
        if inner_steps < 0:
            raise ValueError(f"inner_steps must not be negative, not {inner_steps}")
        if learn_rates and method != "maml":
            raise ValueError(f"learn_rates needs gradients through the steps, which {method!r} does not have")
        for name, module in field.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats:
                raise ValueError(f"{name or 'field'} would mix the signals' statistics: freeze it with .eval()")
        self.names = [name for name, parameter in field.named_parameters() if parameter.requires_grad]
        if not self.names:
            raise ValueError("field has no parameter that requires a gradient")
        given = inner_lr if isinstance(inner_lr, Mapping) else dict.fromkeys(self.names, inner_lr)
        if set(given) != set(self.names):
            wrong = sorted(set(given) ^ set(self.names))
            raise ValueError(f"inner_lr must name each trained parameter once; {wrong[0]!r} is missing or unknown")
        self.field, self.inner_steps, self.method, self.loss = field, inner_steps, method, loss
        self._observe = observe
        first = next(field.parameters())
        rates = torch.tensor([given[name] for name in self.names], device=first.device, dtype=first.dtype)
        self.rates = nn.Parameter(rates, requires_grad=learn_rates)

    def observe(self, field: Callable[[Any], Tensor], x: Any) -> Tensor:
        """What a sensor reads of one field."""
        return field(x) if self._observe is None else self._observe(field, x)

    def forward(self, x: Any) -> Tensor:
        """Readings of the field with its initial weights."""
        return self.observe(lambda at: prediction(self.field(at)), x)

    def assign_credit(
        self, x: Any, y: Any, query: tuple[Any, Any] | None = None, *, per_step: bool = False
    ) -> Float[Tensor, ""]:
        """Add the outer gradient of a batch of signals to ``.grad``.

        Args:
            x: inputs [signals, ...] (a tensor, or a tuple or dict of them).
            y: observations [signals, ...].
            query: inputs and observations on which the adapted weights are judged, where others than ``x`` and ``y``
                (new examples of each task); not for Reptile.
            per_step: x and y are [signals, inner_steps, ...], new observations for each inner step (rays, angles);
                without a query the last ones judge.

        Returns:
            Mean loss after the steps; for Reptile, which does not compute it, before the last one.

        Raises:
            FloatingPointError: a loss is not finite; names the inner step.
            ValueError: the sensor's readings and the observations differ in shape, or ``per_step`` does not fit.
        """
        if self.method == "reptile" and query is not None:
            raise ValueError("query has no place in Reptile, whose gradient is the way that the weights went")
        if per_step and self.inner_steps == 0:
            raise ValueError("per_step needs an inner step at least")
        rates, weights = self._rates(), self._start(x)
        path: list[Weights] = []
        losses: list[Tensor] = []
        for step in range(self.inner_steps):
            if self.method == "maml":
                path.append(weights)
            gradient, loss = self._gradient(weights, *self._seen(x, y, step, per_step))
            weights = {name: weight - rates[name] * gradient[name] for name, weight in weights.items()}
            losses.append(loss)
        if self.method == "reptile":
            outer = {name: weight.detach() - weights[name].mean(0) for name, weight in self._trained().items()}
        else:
            last = self._seen(x, y, self.inner_steps - 1, per_step) if query is None else query
            back, loss = self._gradient(weights, *last)
            losses.append(loss)
            if self.method == "maml":
                back = self._through(back, path, x, y, per_step)
            outer = {name: value.mean(0) for name, value in back.items()}
        self._check(losses)
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.grad = outer[name] if parameter.grad is None else parameter.grad + outer[name]
        return losses[-1].mean() if losses else torch.zeros((), device=self.rates.device)

    def adapt(
        self,
        x: Any,
        y: Any,
        steps: int | None = None,
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None,
    ) -> StackedFields:
        """Fit a batch of new signals from the initial weights.

        Args:
            x: inputs [signals, ...].
            y: observations [signals, ...].
            steps: gradient steps, ``inner_steps`` by default; may be more.
            optimizer: makes another than the inner gradient descent, ``lambda p: torch.optim.Adam(p, 1e-3)``; one that
                treats every number by itself, as all signals are in its tensors.

        Raises:
            FloatingPointError: a loss is not finite; names the step.
        """
        *_, fitted = self.adaptation(x, y, self.inner_steps if steps is None else steps, optimizer)
        return fitted

    def adaptation(
        self,
        x: Any,
        y: Any,
        steps: int,
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None,
    ) -> Iterator[StackedFields]:
        """The fields after 0, 1, ..., ``steps`` steps; arguments as for `adapt`."""
        weights = self._start(x)
        rates = self._rates()
        moving = None
        if optimizer is not None:
            weights = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
            moving = optimizer(list(weights.values()))
        for step in range(steps + 1):
            yield StackedFields(self.field, {name: weight.detach().clone() for name, weight in weights.items()})
            if step == steps:
                return
            gradient, loss = self._gradient({name: weight.detach() for name, weight in weights.items()}, x, y)
            self._check([loss], step)
            if moving is None:
                weights = {name: weight - rates[name] * gradient[name] for name, weight in weights.items()}
            else:
                for name, weight in weights.items():
                    weight.grad = gradient[name]
                moving.step()

    def _trained(self) -> dict[str, nn.Parameter]:
        parameters = dict(self.field.named_parameters())
        return {name: parameters[name] for name in self.names}

    def _rates(self) -> Weights:
        return dict(zip(self.names, self.rates.detach().unbind(), strict=True))

    def _start(self, x: Any) -> Weights:
        """The initial weights, once for each signal."""
        signals = len(tree_leaves(x)[0])
        return {name: p.detach().expand(signals, *p.shape) for name, p in self._trained().items()}

    def _seen(self, x: Any, y: Any, step: int, per_step: bool) -> tuple[Any, Any]:
        if not per_step:
            return x, y
        for leaf in tree_leaves((x, y)):
            if leaf.shape[1] != self.inner_steps:
                raise ValueError(f"per_step needs [signals, {self.inner_steps}, ...], not {tuple(leaf.shape)}")
        return tree_map(lambda t: t[:, step], x), tree_map(lambda t: t[:, step], y)

    def _loss(self, weights: Weights, x: Any, y: Any) -> Tensor:
        return self.loss(self.observe(lambda at: prediction(functional_call(self.field, weights, (at,))), x), y)

    def _gradient(self, weights: Weights, x: Any, y: Any, graph: bool = False) -> tuple[Weights, Tensor]:
        """Each signal's gradient and loss at its own weights, which must be leaves where a graph is to be kept."""
        with torch.enable_grad():
            if not graph:
                weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            losses = vmap(self._loss, randomness="different")(weights, x, y)
            gradients = torch.autograd.grad(losses.sum(), list(weights.values()), create_graph=graph)
        return dict(zip(weights, gradients, strict=True)), losses.detach()

    def _through(self, back: Weights, path: list[Weights], x: Any, y: Any, per_step: bool) -> Weights:
        """The gradient at the end of the path taken back to its start: v - H(θ) α v at each step, H being symmetric."""
        rates, learned = self._rates(), torch.zeros_like(self.rates)
        for step, weights in reversed(list(enumerate(path))):
            leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            gradient, _ = self._gradient(leaves, *self._seen(x, y, step, per_step), graph=True)
            with torch.enable_grad():
                along = sum((gradient[name] * rates[name] * v).sum() for name, v in back.items())
            assert isinstance(along, Tensor)
            bent = torch.autograd.grad(along, list(leaves.values()), allow_unused=True)
            if self.rates.requires_grad:
                learned -= torch.stack([(v * gradient[name].detach()).sum() for name, v in back.items()])
            back = {n: v if b is None else v - b for (n, v), b in zip(back.items(), bent, strict=True)}
        if self.rates.requires_grad:
            learned /= len(next(iter(back.values())))
            self.rates.grad = learned if self.rates.grad is None else self.rates.grad + learned
        return back

    def _check(self, losses: Iterable[Tensor], first: int = 0) -> None:
        for step, loss in enumerate(losses, start=first):
            if not bool(loss.isfinite().all()):
                largest = float(self.rates.detach().abs().max())
                raise FloatingPointError(f"the loss is not finite at inner step {step}: try inner_lr={largest / 10:g}")
