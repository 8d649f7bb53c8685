"""A forward pass is approximate inference; integrating some layers out and drawing the others is a better one.

The paper (Shen and Cremers, 2020) reads feed-forward networks as layered chain graphs, whose activations are
conditional expectations: sigmoids of two-valued units, ReLU and softplus nearly those of rectified normal ones. The
forward pass puts expectations in the place of variables. Collapsing only some of the layers keeps what is random in the
others, and is offered as an inference and as a regulariser in training. The paper's own figures were not available to
us.

Small, in two experiments. ``inference``: random sigmoid networks 8-10-10-3, weights N(0, (2 scale)² / inputs), biases
N(0, 0.09), scales 0.5, 1, 1.5 and 2, 20 networks of each with 4 normal inputs: total variation from exact enumeration
of the forward pass, of 16 samples, of 16 samples with the second hidden layer collapsed, and of both collapsed. Curves
show how samples pay. ``digits/...``: 300 images of 8 x 8 digits, 64-128-128-10 with ReLU units as rectified normal
ones, 150 passes of Adam at 1e-3 in batches of 50: trained by the forward pass (``deterministic``), with both hidden
layers drawn (``sampled``), with the first drawn and the second collapsed (``pcff``), or with dropout of 0.5 in the
plain network. All are tested by their forward pass. Rate and passes are the same for all and were not tuned.

Paper: the digits' networks at the size of MNIST; its convolutional networks on CIFAR-10 are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu, softplus

from neurarium.data import Batches, load
from neurarium.lab import Arm, Bars, Claim, Curve, Metrics, Paper, Run, Scatter, Study, all_of, difference, value
from neurarium.layers import RectifiedGaussian
from neurarium.learning import Backprop
from neurarium.recipes.problem import calibration_error
from neurarium.theory import ChainGraph
from neurarium.training import evaluate, fit


@dataclass(frozen=True)
class Inference:
    """Random networks that can be enumerated."""

    units: int = 10
    networks: int = 20
    inputs: int = 4
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    samples: int = 16
    curve: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Digits:
    """Training with layers drawn or collapsed."""

    training: Literal["deterministic", "sampled", "pcff", "dropout"] = "pcff"
    data: str = "digits"
    images: int = 300
    hidden: int = 128
    epochs: int = 150
    learning_rate: float = 1e-3
    rate: float = 0.5  # of dropout


METHODS: dict[str, dict[str, object]] = {
    "feedforward": {"method": "feedforward"},
    "sampled": {"method": "sampled"},
    "pcff": {"method": "collapsed", "sampled": ("1",)},
    "all-collapsed": {"method": "collapsed", "sampled": ()},
}
"""Name -> arguments of `ChainGraph.infer`; "1" is the first hidden layer."""


def inference(settings: Inference, run: Run) -> Metrics:
    """Total variation of each way of inference from the truth."""
    generator = torch.Generator().manual_seed(run.seed)
    found: dict[str, float] = {}
    for scale in run.track(settings.scales, "scales"):
        errors = dict.fromkeys(METHODS, 0.0)
        for number in range(settings.networks):
            graph = ChainGraph(random_network(settings.units, scale, generator).to(run.device), "categorical")
            x = torch.randn(settings.inputs, 8, generator=generator).to(run.device)
            with torch.no_grad():
                exact = graph.infer(x, "exact")
                for name, options in METHODS.items():
                    guess = graph.infer(x, samples=settings.samples, generator=generator, **options)  # type: ignore[arg-type]
                    errors[name] += variation(guess, exact) / settings.networks
                if scale == 1 and number < 10:
                    for name in ("sampled", "pcff"):
                        for samples in settings.curve:
                            guess = graph.infer(x, samples=samples, generator=generator, **METHODS[name])  # type: ignore[arg-type]
                            run.record(samples=samples, total_variation=variation(guess, exact), by=name)
        for name, error in errors.items():
            run.record(weight_scale=scale, distance_from_exact=error, method=name)
            if scale == 1:
                found[name.replace("-", "_")] = error
        found[f"feedforward_{scale:g}"] = errors["feedforward"]
    e = torch.linspace(-8, 8, 16_001, dtype=torch.float64)
    soft, hard = RectifiedGaussian("softplus").mean(e), RectifiedGaussian("relu").mean(e)
    for place in range(0, len(e), 160):
        at = float(e[place])
        run.record(input=at, error_of_activation=float(soft[place] - softplus(e[place])), node="softplus")
        run.record(input=at, error_of_activation=float(hard[place] - relu(e[place])), node="ReLU")
    low, high = min(settings.scales), max(settings.scales)
    return {
        **found,
        "growth": found[f"feedforward_{high:g}"] - found[f"feedforward_{low:g}"],
        "softplus_error": float((soft - softplus(e)).abs().max()),
        "relu_error": float((hard - relu(e)).abs().max()),
        "converter_error": converter_error(generator),
    }


def variation(guess: Tensor, exact: Tensor) -> float:
    """Mean total variation between rows of probabilities."""
    return float((guess - exact).abs().sum(1).double().mean()) / 2


def random_network(units: int, scale: float, generator: torch.Generator) -> nn.Sequential:
    """Three layers of drawn weights."""
    model = nn.Sequential(nn.Linear(8, units), nn.Sigmoid(), nn.Linear(units, units), nn.Sigmoid(), nn.Linear(units, 3))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0.0, 2 * scale / math.sqrt(layer.in_features), generator=generator)
                layer.bias.normal_(0.0, 0.3, generator=generator)
    return model


@torch.no_grad()
def converter_error(generator: torch.Generator) -> float:
    """Largest difference between networks and the forward pass of their chain graphs."""
    worst, x = 0.0, torch.randn(20, 8, generator=generator)
    for activation in (nn.Sigmoid(), nn.Tanh(), nn.Softmax(-1)):
        model = random_network(10, 1.0, generator)
        model[1] = model[3] = activation
        worst = max(worst, float((ChainGraph(model, "categorical").infer(x) - model(x).softmax(1)).abs().max()))
    return worst


def digits(settings: Digits, run: Run) -> Metrics:
    """A network trained on few images, tested by its forward pass."""
    split = load(settings.data).flat()
    top = float(split.train.x.max())
    split = split.map_inputs(lambda x: x.float() / top).to(run.device)
    images = split.train.subset(settings.images, seed=run.seed)
    torch.manual_seed(run.seed)
    width, layers = settings.hidden, list[nn.Module]()
    for inputs in (images.x.shape[1], width):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        layers += [nn.Dropout(settings.rate)] if settings.training == "dropout" else []
    model: nn.Module = nn.Sequential(*layers, nn.Linear(width, 10)).to(run.device)
    if settings.training in ("sampled", "pcff"):
        model = ChainGraph(model, "categorical", sampled=("1", "3") if settings.training == "sampled" else ("1",))
    rule = Backprop(model, cross_entropy)
    optimizer = torch.optim.Adam(rule.parameters(), settings.learning_rate)
    batches = Batches(images, 50, shuffle=True, seed=run.seed)
    for epoch in run.track(range(1, settings.epochs + 1), "epochs"):
        model.train()
        loss = fit(rule, batches, optimizer)[0]
        if epoch % max(1, settings.epochs // 25) == 0:
            nll = evaluate(model, Batches(split.test, 500), cross_entropy)
            run.record(epoch=epoch, training_loss=loss, test_nll=nll)
    model.eval()
    with torch.no_grad():
        scores = model(split.test.x)
    return {
        "accuracy": float((scores.argmax(1) == split.test.y).double().mean()),
        "nll": float(cross_entropy(scores, split.test.y)),
        "calibration_error": calibration_error(scores.double().softmax(1), split.test.y),
    }


def smoke(settings: Inference | Digits) -> Inference | Digits:
    """Seconds: whether it runs."""
    if isinstance(settings, Inference):
        return replace(settings, units=4, networks=2, inputs=2, scales=(0.5, 1.0), samples=4, curve=(1, 2))
    return replace(settings, images=60, hidden=16, epochs=2)


def paper(settings: Inference | Digits) -> Inference | Digits:
    """More networks; MNIST."""
    if isinstance(settings, Inference):
        return replace(settings, networks=500)
    return replace(settings, data="mnist", images=60_000, hidden=1_000, epochs=50)


STUDY = Study(
    paper=Paper("A Chain Graph Interpretation of Real-World Neural Networks", "Shen and Cremers", 2020, "2006.16856"),
    trial=None,
    arms={
        "inference": Arm(inference, Inference()),
        "digits/deterministic": Arm(digits, Digits("deterministic")),
        "digits/sampled": Arm(digits, Digits("sampled")),
        "digits/pcff": Arm(digits, Digits("pcff")),
        "digits/dropout": Arm(digits, Digits("dropout")),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "collapsing a layer is nearer to the truth than sampling all, and than the forward pass", "section 4",
            all_of(
                value("pcff", "inference") / value("sampled", "inference") < 0.6,
                value("pcff", "inference") / value("feedforward", "inference") < 0.6,
            ),
        ),
        Claim(
            "the forward pass errs the more, the larger the weights", "section 3",
            value("growth", "inference") > 0.0,
        ),
        Claim(
            "training with a layer collapsed is a regulariser: better likelihood at no loss of accuracy", "section 5",
            all_of(
                difference("nll", "digits/pcff", "digits/deterministic") < -0.02,
                difference("accuracy", "digits/pcff", "digits/deterministic") > -0.01,
            ),
        ),
        Claim(
            "networks are chain graphs: the forward pass is theirs, softplus and ReLU are rectified normal units",
            "section 3",
            all_of(
                value("converter_error", "inference") < 1e-5, value("softplus_error", "inference") < 0.0155,
                value("relu_error", "inference") < 0.0372,
            ),
        ),
    ],
    figures=[
        Curve(
            "Distance from exact inference by the scale of the weights", x="weight_scale", y="distance_from_exact",
            series="method", arms=("inference",),
        ),
        Curve(
            "What a sample is worth, alone and with a layer collapsed", x="samples", y="total_variation", series="by",
            arms=("inference",), log_x=True, log_y=True,
        ),
        Curve(
            "Rectified normal units against the activations that they stand for", x="input", y="error_of_activation",
            series="node", arms=("inference",),
        ),
        Curve("Negative log-likelihood on unseen digits", x="epoch", y="test_nll"),
        Scatter("Accuracy and calibration", x="calibration_error", y="accuracy"),
        Bars("Negative log-likelihood on unseen digits, at the end", metric="nll"),
    ],
    seeds=(3, 5),
)  # fmt: skip
