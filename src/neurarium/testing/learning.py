"""The contract of learning rules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.learning import LearningRule
from neurarium.testing.contract import blobs, require, same, seeded
from neurarium.training import accuracy, fit


def mlp() -> nn.Module:
    """A plain stack."""
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))


def convolutional() -> nn.Module:
    """Convolutions, pooling and a head on [batch, 8] seen as 1 x 2 x 4 images."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


class Foreign(nn.Module):
    """A network no rule has seen: named parts, a skip connection, a list of blocks, a functional nonlinearity."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Linear(8, 16)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.Tanh()) for _ in range(3)])
        self.leave = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 8] -> [batch, 3]."""
        hidden = torch.relu(self.entry(x))
        for block in self.blocks:
            hidden = block(hidden)
        return self.leave(hidden)


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "convolutional": convolutional, "foreign": Foreign}


def check_learning_rule(rule_class: type[LearningRule]) -> None:
    """Hold a learning rule to the contract: ``rule_class(model, loss)`` with its defaults.

    A rule must train the plain stack; other models it may refuse, with a `ValueError` or `TypeError` that names why.

    Raises:
        ContractError: one sentence that says what is wanted.
    """
    for name, make in MODELS.items():
        try:
            seeded(0, _build, rule_class, make)
        except (ValueError, TypeError) as refusal:
            require(name != "mlp", rule_class, f"must accept a plain stack of layers, but said: {refusal}")
            require(len(str(refusal)) > 20, rule_class, "must say why it refuses a model")
            continue
        _check_gradients(rule_class, make)
        _check_state(rule_class, make)
    _check_learns(rule_class)
    _check_refusals(rule_class)


def _build(rule_class: type[LearningRule], make: Callable[[], nn.Module]) -> LearningRule:
    return rule_class(make(), cross_entropy)


def _gradients(rule: LearningRule, x: Tensor, y: Tensor, seed: int = 1) -> dict[str, Tensor]:
    rule.zero_grad(set_to_none=True)
    seeded(seed, lambda: rule.assign_credit(x, y))
    return {name: p.grad.clone() for name, p in rule.named_parameters() if p.grad is not None}


def _check_gradients(rule_class: type[LearningRule], make: Callable[[], nn.Module]) -> None:
    x, y = blobs()
    rule = seeded(0, _build, rule_class, make)
    inside = {id(p) for p in rule.parameters()}
    require(
        all(id(p) in inside for p in rule.model.parameters()), rule_class, "must hold the model's parameters as its own"
    )
    before = {name: p.detach().clone() for name, p in rule.named_parameters()}
    loss = seeded(1, lambda: rule.assign_credit(x, y))
    require(loss.dim() == 0 and not loss.requires_grad, rule_class, "must return a detached scalar loss")
    require(bool(torch.isfinite(loss)), rule_class, "must return a finite loss")
    after = {name: p.detach() for name, p in rule.named_parameters()}
    require(
        all(same(before[n], after[n]) for n in before), rule_class, "must leave the weights alone: the optimizer steps"
    )
    first = _gradients(rule, x, y)
    require(bool(first), rule_class, "must fill .grad of at least one parameter")
    require(all(bool(torch.isfinite(g).all()) for g in first.values()), rule_class, "must give finite gradients")
    require(any(bool(g.abs().sum() > 0) for g in first.values()), rule_class, "must give a gradient that is not zero")
    require(same(first, _gradients(rule, x, y)), rule_class, "must be deterministic for one state of torch's generator")
    seeded(1, lambda: rule.assign_credit(x, y))
    doubled = {name: p.grad for name, p in rule.named_parameters() if p.grad is not None}
    require(
        all(torch.allclose(doubled[n], 2 * g, rtol=1e-4, atol=1e-7) for n, g in first.items()),
        rule_class, "must add to .grad, so that two calls accumulate",
    )  # fmt: skip
    rule.zero_grad()
    rule.eval()
    same_output = torch.allclose(rule(x), rule(x)) and rule(x).shape == (len(x), 3)
    require(same_output, rule_class, "must predict [batch, classes], the same each time in evaluation mode")
    hooks = [m for m in rule.model.modules() if len(m._forward_hooks) or len(m._forward_pre_hooks)]
    require(not hooks, rule_class, "must leave no forward hook on the model behind")


def _check_state(rule_class: type[LearningRule], make: Callable[[], nn.Module]) -> None:
    x, y = blobs()
    rule = seeded(0, _build, rule_class, make)
    first = _gradients(rule, x, y)
    state = {name: tensor.clone() for name, tensor in rule.state_dict().items()}
    other = seeded(7, _build, rule_class, make)
    other.load_state_dict(state)
    require(
        same(first, _gradients(other, x, y)), rule_class,
        "must give the same gradients after its state_dict is loaded into a fresh rule",
    )  # fmt: skip
    double = seeded(0, _build, rule_class, make).double()
    kinds = {g.dtype for g in _gradients(double, x.double(), y).values()}
    require(kinds == {torch.float64}, rule_class, "must work in float64 throughout")


def _check_learns(rule_class: type[LearningRule]) -> None:
    x, y = blobs(examples=240)
    rule = seeded(0, _build, rule_class, mlp)
    optimizer = torch.optim.Adam(rule.parameters(), lr=max(rule_class.learning_rate, 3e-3))
    batches = [(x[i : i + 48], y[i : i + 48]) for i in range(0, len(x), 48)]
    seeded(3, lambda: fit(rule, batches, optimizer, epochs=60))
    rule.eval()
    with torch.no_grad():
        reached = float(accuracy(seeded(4, lambda: rule(x)), y))
    require(reached > 0.8, rule_class, f"must learn three separate blobs (reached accuracy {reached:.2f} of 0.80)")


def _check_refusals(rule_class: type[LearningRule]) -> None:
    try:
        rule = rule_class(nn.Sequential(nn.ReLU()), cross_entropy)
        rule.assign_credit(*blobs(classes=8))
    except (ValueError, TypeError) as refusal:
        require(len(str(refusal)) > 20, rule_class, "must say why it refuses a model without parameters")
    except Exception as error:
        require(False, rule_class, f"must refuse a model without parameters with a ValueError, not {error!r}")
    else:
        require(False, rule_class, "must refuse a model without parameters")
