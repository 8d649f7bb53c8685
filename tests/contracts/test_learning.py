"""Every public learning rule against the room's contract, and the contract against rules that break it."""

import pytest
import torch
from torch import nn

from neurarium.learning import Backprop, LearningRule
from neurarium.testing import ContractError, check_learning_rule, public


@pytest.mark.parametrize("rule_class", public("learning", LearningRule).values(), ids=lambda rule: rule.__name__)
def test_rule_keeps_the_contract(rule_class):
    check_learning_rule(rule_class)


class Overwrites(Backprop):
    def assign_credit(self, x, y):
        self.zero_grad()
        return super().assign_credit(x, y)


class Attached(Backprop):
    def assign_credit(self, x, y):
        loss = self.loss(self.model(x), y)
        loss.backward(retain_graph=True)
        return loss


class Uphill(Backprop):
    def assign_credit(self, x, y):
        loss = -self.loss(self.model(x), y)
        loss.backward()
        return loss.detach()


class Forgets(Backprop):
    """Keeps a random scale outside its state."""

    def __init__(self, model, loss):
        super().__init__(model, loss)
        self.scale = float(torch.rand(()))

    def assign_credit(self, x, y):
        loss = self.scale * self.loss(self.model(x), y)
        loss.backward()
        return loss.detach()


class StepsItself(Backprop):
    def assign_credit(self, x, y):
        loss = super().assign_credit(x, y)
        with torch.no_grad():
            for p in self.parameters():
                p -= 0.1 * p.grad
        return loss


class LeavesHooks(Backprop):
    def assign_credit(self, x, y):
        next(m for m in self.model.modules() if isinstance(m, nn.Linear)).register_forward_hook(lambda *a: None)
        return super().assign_credit(x, y)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Overwrites, "must add to .grad"),
        (Attached, "detached scalar"),
        (Uphill, "must learn"),
        (Forgets, "state_dict"),
        (StepsItself, "leave the weights alone"),
        (LeavesHooks, "no forward hook"),
    ],
)
def test_contract_catches(broken, sentence):
    with pytest.raises(ContractError, match=sentence):
        check_learning_rule(broken)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameter to train"):
        Backprop(nn.ReLU(), nn.functional.cross_entropy)
