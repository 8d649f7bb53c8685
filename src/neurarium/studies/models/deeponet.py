"""A network with a part for the function and a part for the place learns operators from few functions.

Lu et al. multiply what a branch makes of a function at fixed sensors with what a trunk makes of a place. They report
test errors one to three orders of magnitude below those of the best fully connected network on function and place
together, a small gap between training and test, a gain from the bias and from one branch network in the place of many
("unstacked"), errors that fall exponentially and then as a power of the number of functions, and larger errors for
rougher functions.

Small: the antiderivative and the pendulum on draws of a Gaussian field (length .2, 500 points, 100 sensors), one random
place for each of 1,000 functions, 2,000 functions to test. Adam in full batches, 800 steps, the state with the lowest
training loss counts, as in the paper. Networks: 40 wide, two layers in branch and trunk (7,401 parameters); fully
connected ones with as many layers and parameters (``fnn-equal``) or more (``fnn-wide``). Rates of 1e-3 and 3e-3 were
tried on seed 100, which is not reported. ``stacked`` has 20 networks of 20 units in the branch (40 of 40 would cost as
much as all else); ``kan-trunk`` has splines in the trunk; both see the antiderivative alone. Errors are log10 of the
mean squared error.
``by-functions`` trains on 100, 400 and 1,600 functions, ``by-sensors`` with 4, 12 and 100 sensors.

Paper: three operators, 10,000 functions, 50,000 steps in full batches; ``--set operators=diffusion_reaction --set
places=100`` is the fourth, read at 100 places of each function. Its recurrent baseline and stochastic
equations are left out.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from neurarium.data import (
    OperatorBatches,
    OperatorData,
    antiderivative,
    diffusion_reaction,
    gaussian_field,
    nonlinear_ode,
    operator_data,
    pendulum,
    resample,
)  # fmt: skip
from neurarium.lab import Arm, Bars, Claim, Curve, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.models import KAN, DeepONet
from neurarium.probes import error_phases
from neurarium.training import evaluate

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "antiderivative": antiderivative, "pendulum": pendulum, "nonlinear": nonlinear_ode,
    "diffusion_reaction": diffusion_reaction,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    network: Literal["deeponet", "no-bias", "stacked", "kan-trunk", "fnn-equal", "fnn-wide"] = "deeponet"
    lr: float = 3e-3
    operators: tuple[str, ...] = ("antiderivative", "pendulum")
    functions: int = 1000
    places: int = 1
    tested: int = 2000
    points: int = 500
    sensors: int = 100
    length: float = 0.2
    width: int = 40
    steps: int = 800
    looks: int = 10
    sizes: tuple[int, ...] = ()


class Joined(nn.Module):
    """A fully connected network on the sensors and the place side by side."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            linear = nn.Linear(a, b)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            parts += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*parts[:-1])

    def forward(self, u: Tensor, y: Tensor, aligned: bool = False) -> Tensor:
        """[functions, places, 1], as `DeepONet` gives them."""
        y = y.expand(len(u), -1, -1)
        out: Tensor = self.layers(torch.cat([u[:, None].expand(-1, y.shape[1], -1), y], -1))
        return out


def build(settings: Settings, dim: int) -> nn.Module:
    """The network of an arm."""
    match settings.network:
        case "fnn-equal":
            return Joined(settings.sensors + dim, 40, 40, 40, 1)
        case "fnn-wide":
            return Joined(settings.sensors + dim, 100, 100, 1)
        case "kan-trunk":
            branch = DeepONet.mlp(settings.sensors, dim).branches[0]
            return DeepONet(branch, KAN([dim, 8, 40], grid_range=(0.0, 1.0)))
    return DeepONet.mlp(
        settings.sensors, dim, settings.width, stacked=settings.network == "stacked", bias=settings.network != "no-bias"
    )  # fmt: skip


def examples(settings: Settings, operator: str, functions: int, seed: int, length: float = 0.0) -> OperatorData:
    """Random functions, and what the operator makes of each at random places."""
    generator = torch.Generator().manual_seed(seed)
    u = gaussian_field(functions, length or settings.length, settings.points, generator)
    return operator_data(u, OPERATORS[operator](u), settings.sensors, settings.places, generator)


def learn(
    model: nn.Module, train: OperatorData, settings: Settings, run: Run, look: Callable[[int, float], None]
) -> float:
    """Full batches, as in the paper; keep the state with the lowest training loss, and return that loss."""
    optimizer = torch.optim.Adam(model.parameters(), settings.lr, fused=True)
    best, state, every = math.inf, copy.deepcopy(model.state_dict()), settings.steps // settings.looks
    for step in range(settings.steps + 1):
        loss = mse_loss(model(train.u, train.y, train.aligned), train.s)
        if step % every == 0:
            if float(loss.detach()) < best:
                best, state = float(loss.detach()), copy.deepcopy(model.state_dict())
            look(step, float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.load_state_dict(state)
    return best


def trial(settings: Settings, run: Run) -> Metrics:
    """Learn each operator."""
    metrics: dict[str, float] = {}
    for operator in run.track(settings.operators, "operators"):
        train = examples(settings, operator, settings.functions, run.seed).to(run.device)
        test = OperatorBatches(examples(settings, operator, settings.tested, 10_000 + run.seed).to(run.device), 1000)
        model = build(settings, train.y.shape[-1]).to(run.device)

        def look(
            step: int, loss: float, model: nn.Module = model, test: OperatorBatches = test, name: str = operator
        ) -> None:
            error = evaluate(model, test, mse_loss)
            run.record(step=step, test_error=error, operator=name)
            run.record(step=step, training_error=loss, operator=name)

        trained = learn(model, train, settings, run, look)
        error = evaluate(model, test, mse_loss)
        metrics |= {operator: math.log10(error), f"{operator}_gap": math.log10(error / trained)}
        metrics["parameters"] = float(sum(p.numel() for p in model.parameters()))
        if operator == "antiderivative":
            for name, length in (("rougher", 0.1), ("smoother", 0.5)):
                shifted = examples(settings, operator, settings.tested, 20_000 + run.seed, length).to(run.device)
                metrics[name] = math.log10(evaluate(model, OperatorBatches(shifted, 1000), mse_loss))
            show(model, settings, run)
    return metrics


@torch.no_grad()
def show(model: nn.Module, settings: Settings, run: Run) -> None:
    """The answer to ``x sin 2πx``, and some of the trunk's functions."""
    x = torch.linspace(0, 1, settings.points, device=run.device)[None]
    u, y = x * torch.sin(2 * math.pi * x), torch.linspace(0, 1, 51, device=run.device)[:, None]
    sensors = resample(u, x, torch.linspace(0, 1, settings.sensors, device=run.device))
    found, truth = model(sensors, y, True)[0, :, 0], resample(antiderivative(u), x, y.mT)[0]
    for place, answer, right in zip(y[:, 0].tolist(), found.tolist(), truth.tolist(), strict=True):
        run.record(place=place, answer=answer, of="network")
        run.record(place=place, answer=right, of="truth")
    if isinstance(model, DeepONet):
        for number, values in enumerate(model.trunks[0](y).mT[:5].tolist()):
            for place, found_there in zip(y[:, 0].tolist(), values, strict=True):
                run.record(place=place, trunk=found_there, function=f"{number + 1}")


def sizes(settings: Settings, run: Run) -> Metrics:
    """The antiderivative's error for several numbers of functions."""
    return swept(settings, run, "functions")


def sensors(settings: Settings, run: Run) -> Metrics:
    """The antiderivative's error for several numbers of sensors."""
    return swept(settings, run, "sensors")


def swept(settings: Settings, run: Run, what: Literal["functions", "sensors"]) -> dict[str, float]:
    """Train for each size of something; how the error falls with it."""
    errors = []
    for size in run.track(settings.sizes, what):
        changed = replace(settings, functions=size) if what == "functions" else replace(settings, sensors=size)
        train = examples(changed, "antiderivative", changed.functions, run.seed).to(run.device)
        test = examples(changed, "antiderivative", changed.tested, 10_000 + run.seed).to(run.device)
        model = build(changed, 1).to(run.device)
        learn(model, train, changed, run, lambda *_: None)
        errors.append(evaluate(model, OperatorBatches(test, 1000), mse_loss))
        run.record(**{what: size, "error": errors[-1]})
    found = error_phases(settings.sizes, errors)
    log, reach = [math.log10(error) for error in errors], math.log10(settings.sizes[-1] / settings.sizes[-2])
    return {
        "slope": (log[-1] - log[-2]) / reach, "smallest": log[0], "largest": log[-1],
        "rate": 0.0 if math.isnan(found.rate) else found.rate,
        "exponent": 0.0 if math.isnan(found.exponent) else found.exponent,
    }  # fmt: skip


def smoke(settings: Settings) -> Settings:
    """A few steps on few functions."""
    few = replace(settings, functions=20, tested=20, points=50, sensors=10, steps=4, looks=2)
    return replace(few, sizes=(3, 5, 10)) if settings.sizes else few


def paper(settings: Settings) -> Settings:
    """10,000 functions, more operators."""
    large = replace(settings, functions=10_000, tested=100_000, points=1000, steps=50_000, looks=500)
    if settings.sizes:
        return replace(large, functions=settings.functions, sizes=tuple(4 * size for size in settings.sizes))
    return replace(large, operators=("antiderivative", "pendulum", "nonlinear"))


FIRST = ("antiderivative",)
STUDY = Study(
    paper=Paper(
        "DeepONet: Learning nonlinear operators for identifying differential equations based on the universal "
        "approximation theorem of operators", "Lu et al.", 2019, arxiv="1910.03193",
    ),
    trial=trial,
    arms={
        "deeponet": Settings(),
        "no-bias": Settings("no-bias"),
        "fnn-equal": Settings("fnn-equal"),
        "fnn-wide": Settings("fnn-wide"),
        "stacked": Settings("stacked", operators=FIRST, width=20),
        "kan-trunk": Settings("kan-trunk", operators=FIRST),
        "by-functions": Arm(sizes, Settings(sizes=(100, 400, 1600))),
        "by-sensors": Arm(sensors, Settings(sizes=(4, 12, 100))),
    },
    scales={"smoke": smoke, "paper": paper},
    claims=[
        Claim(
            "On the antiderivative its error is far below that of fully connected networks", "Fig. 3",
            all_of(
                difference("antiderivative", "fnn-equal", "deeponet") > 0.5,
                difference("antiderivative", "fnn-wide", "deeponet") > 0.5,
            ),
            published="test error about 1e-6 with 10,000 functions",
        ),
        Claim(
            "On the pendulum, too", "Fig. 5",
            all_of(
                difference("pendulum", "fnn-equal", "deeponet") > 0.5,
                difference("pendulum", "fnn-wide", "deeponet") > 0.5,
            ),
        ),
        Claim(
            "It generalises: the test error is fewer times the training error", "Fig. 3",
            difference("antiderivative_gap", "fnn-equal", "deeponet") > 0.5,
        ),
        Claim(
            "A bias lowers the error", "Fig. 3", difference("antiderivative", "no-bias", "deeponet") > 0,
        ),
        Claim(
            "The error falls at least as a power of the number of functions (400 to 1,600)", "Fig. 6",
            value("slope", "by-functions") < -0.5,
        ),
        Claim(
            "Functions rougher than those of the training are harder", "section 4",
            value("rougher", "deeponet") - value("antiderivative", "deeponet") > 0.3,
        ),
    ],
    figures=[
        Curve("Test error while training", ["deeponet", "no-bias", "fnn-equal", "fnn-wide"], x="step", y="test_error",
              series="operator", log_y=True),
        Curve("Training error", ["deeponet", "fnn-equal"], x="step", y="training_error", series="operator", log_y=True),
        Bars("Gap: log10 of test over training error, antiderivative", metric="antiderivative_gap"),
        Curve("Test error against the number of functions", ["by-functions"], x="functions", y="error", log_x=True,
              log_y=True),
        Curve("Test error against the number of sensors", ["by-sensors"], x="sensors", y="error", log_x=True,
              log_y=True),
        Curve("The antiderivative of x sin 2πx, which no network was trained on", ["deeponet", "fnn-equal", "fnn-wide"],
              x="place", y="answer", series="of"),
        Curve("Five of the trunk's functions", ["deeponet", "kan-trunk"], x="place", y="trunk", series="function"),
        Bars("log10 test error, antiderivative", metric="antiderivative"),
    ],
    seeds=(2, 4),
)  # fmt: skip
