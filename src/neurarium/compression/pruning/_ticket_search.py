"""Drivers of the lottery-ticket search: with your training function, or with a loader alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.compression._compressor import Compressor
from neurarium.compression.pruning._lottery import LotteryTicket
from neurarium.data._saved import read_saved
from neurarium.training import JoinedBatches, call, copy_module, training, unpack

TrainFunction = Callable[[nn.Module, LotteryTicket], Mapping[str, float] | None]
"""``train(model, ticket) -> metrics``: builds an optimizer, calls ``ticket.attach(optimizer)``, trains the model.

``ticket.round`` counts the rounds done, for a batch order that differs between rounds (or does not)."""


@dataclass(frozen=True)
class TicketRound:
    """One round of a search. Tensors, numbers and text only: it is saved with ``torch.save``.

    Args:
        round: rounds of pruning done, from 1.
        density: share of the weights left after it.
        layers: the same per layer.
        masks: what is left.
        metrics: what the training function returned for the training *before* this round's pruning.
        state: the ticket's ``state_dict()`` after the round; `LotteryTicket.load_state_dict` goes on from it.
    """

    round: int
    density: float
    layers: dict[str, float]
    masks: dict[str, Tensor]
    metrics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def find_ticket(
    model: nn.Module | LotteryTicket,
    train_fn: TrainFunction,
    rounds: int,
    *,
    schedule: Literal["iterative", "continued", "one-shot"] = "iterative",
    folder: str | Path | None = None,
) -> list[TicketRound]:
    """Search a winning ticket by iterative magnitude pruning (Frankle & Carbin 2018, Section 2 and Appendix B).

    The model is trained and pruned in place; at the end it is the winning ticket, rewound and ready to train
    (``ticket.attach`` an optimizer to train it sparse).

    Args:
        model: a freshly initialised model, or a `LotteryTicket` on one, with the rates of your choice.
        train_fn: trains the model in place; see `TrainFunction`.
        rounds: rounds of pruning.
        schedule: ``"iterative"`` rewinds after every round; ``"continued"`` goes on training from the pruned weights
            and rewinds once at the end; ``"one-shot"`` trains once and prunes all rounds' worth at once.
        folder: keeps every finished round in a file there and continues after the last one found. A file is written
            whole or not at all.

    Returns:
        The rounds, resumed ones included; one for ``"one-shot"``.

    Raises:
        ValueError: the training function left pruned weights that are not zero, or a file in the folder belongs to
            another schedule, model or pruning rate.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    if schedule not in ("iterative", "continued", "one-shot"):
        raise ValueError(f"schedule must be 'iterative', 'continued' or 'one-shot', not {schedule!r}")
    ticket = model if isinstance(model, LotteryTicket) else LotteryTicket(model)
    step = rounds if schedule == "one-shot" else 1
    numbers = range(step, rounds + 1, step)
    done = _resume(ticket, numbers, schedule, folder)
    for number in list(numbers)[len(done) :]:
        # plain numbers: a file of anything else could not be read back
        metrics = {key: float(value) for key, value in (train_fn(ticket.model, ticket) or {}).items()}
        for name, weight in ticket.masks.targets.items():
            if bool((weight.detach()[~ticket.masks[name]] != 0).any()):
                raise ValueError(f"training brought pruned weights of {name} back: call ticket.attach(optimizer) in it")
        ticket.prune(step)
        if schedule != "continued":
            ticket.reset()
        state = ticket.state_dict()
        done.append(TicketRound(number, ticket.density, ticket.report(), state["masks"], metrics, state))
        if folder is not None:
            _save(done[-1], {"schedule": schedule, "rates": ticket.rates}, Path(folder))
    ticket.reset()
    return done


class IterativeMagnitudePruning(Compressor):
    """Prune by rounds of training, magnitude pruning and rewinding; then train the ticket that is left.

    Args:
        rounds: rounds of pruning; ``(1 − rate)^rounds`` of the weights are left (more in the output layer).
        rate: share of the remaining weights that a round prunes.
        epochs: passes over the loader per training, of which there are ``rounds + 1``.
        loss: ``loss(output, target) -> scalar``.
        optimizer: ``optimizer(parameters)``; Adam at 1.2e-3, the paper's for its fully-connected network.
        **options: further arguments of `LotteryTicket`.
    """

    def __init__(
        self,
        rounds: int = 5,
        rate: float = 0.2,
        *,
        epochs: int = 5,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        **options: Any,
    ) -> None:
        self.rounds = rounds
        self.rate = rate
        self.epochs = epochs
        self.loss = loss
        self.optimizer = optimizer or (lambda parameters: torch.optim.Adam(parameters, lr=1.2e-3))
        self.options = options

    def compress(self, model: nn.Module, loader: Iterable[Any]) -> nn.Module:
        """A trained sparse copy.

        Args:
            model: an untrained model, whose values are rewound to. (A trained one works too: then each round
                fine-tunes from its weights.)
            loader: batches ``(x, y)``; iterated ``(rounds + 1) × epochs`` times.
        """

        def train(network: nn.Module, ticket: LotteryTicket) -> None:
            optimizer = self.optimizer(network.parameters())
            with ticket.attach(optimizer), training(network):
                batches = 0
                for _ in range(self.epochs):
                    for x, y in map(unpack, JoinedBatches(loader)):
                        optimizer.zero_grad()
                        self.loss(call(network, x), y).backward()
                        optimizer.step()
                        batches += 1
            if not batches:
                raise ValueError("loader gave no batches")

        ticket = LotteryTicket(copy_module(model), rate=self.rate, **self.options)
        find_ticket(ticket, train, self.rounds)
        train(ticket.model, ticket)
        return ticket.model


def _path(folder: Path, number: int) -> Path:
    return folder / f"round-{number:03d}.pt"


def _save(found: TicketRound, search: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, found.round)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    torch.save({**search, "metrics": found.metrics, "state": found.state}, partial)
    os.replace(partial, path)


def _resume(ticket: LotteryTicket, numbers: range, schedule: str, folder: str | Path | None) -> list[TicketRound]:
    """The rounds found in the folder, from the first up to a gap; puts the ticket where the last one left it."""
    done: list[TicketRound] = []
    for number in numbers:
        path = None if folder is None else _path(Path(folder), number)
        if path is None or not path.exists():
            break
        saved = read_saved(path, "a search for tickets", ("schedule", "rates", "state", "metrics"))
        if saved["schedule"] != schedule:
            raise ValueError(f"{path} is of a {saved['schedule']!r} search, not {schedule!r}; name another folder")
        if set(saved["rates"]) == set(ticket.rates) and saved["rates"] != ticket.rates:
            raise ValueError(f"{path} was pruned at rates {saved['rates']}, not {ticket.rates}; name another folder")
        try:
            ticket.load_state_dict(saved["state"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} does not fit this model: {error}") from None
        state = saved["state"]
        done.append(TicketRound(number, ticket.density, ticket.report(), state["masks"], saved["metrics"], state))
    return done
