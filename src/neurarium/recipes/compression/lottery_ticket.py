"""Pruning in rounds, each of which starts again from the first weights."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from neurarium import compression
from neurarium.recipes.gradient import Plan, adamw, learn, refused
from neurarium.recipes.knobs import Knobs, Real, Whole, rate
from neurarium.recipes.problem import Problem
from neurarium.recipes.recipe import Predictor, Progress, Recipe, Traits


@final
class LotteryTicket(Recipe):
    """Lottery ticket: train, prune the smallest weights, go back to the first ones, again; then train what is left."""

    slug = "lottery-ticket"
    paper = "lottery-ticket"
    traits = Traits("compressor", shrinks=True)
    knobs = {"learning_rate": rate(1e-3), "rounds": Whole(1, 8, 3), "rate": Real(0.1, 0.7, 0.4)}

    def fits(self, problem: Problem) -> str:
        """There must be something to prune."""
        return super().fits(problem) or refused(lambda: compression.LotteryTicket(problem.make_model(0)))

    def train(self, problem: Problem, knobs: Knobs, progress: Progress) -> Predictor:
        """Equal shares of the steps for every round and for the ticket."""
        model = problem.make_model(progress.seed)
        ticket = compression.LotteryTicket(model, rate=knobs["rate"])
        share = 1 / (knobs["rounds"] + 1)
        for _ in range(knobs["rounds"]):
            self._round(problem, ticket, knobs, progress, share)
            ticket.prune_and_rewind()
        return sparse(self._round(problem, ticket, knobs, progress, share))

    def _round(
        self, problem: Problem, ticket: compression.LotteryTicket, knobs: Knobs, progress: Progress, share: float
    ) -> Predictor:
        optimizer = adamw(ticket.model, knobs)
        with ticket.attach(optimizer):
            return learn(problem, Plan(ticket.model, optimizer=optimizer), knobs, progress, share=share)


def sparse(predictor: Predictor) -> Predictor:
    """The size that a network with zeros takes where they are left out: a value and a column index for each weight."""
    model = predictor.predict
    assert isinstance(model, nn.Module)
    tensors = [tensor for tensor in model.state_dict().values() if isinstance(tensor, torch.Tensor)]
    size = sum(min(t.nbytes, int(t.count_nonzero()) * (t.element_size() + 4)) for t in tensors)
    return Predictor(model, size, predictor.costs)
