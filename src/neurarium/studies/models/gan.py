"""Samples of a network follow the data when it plays against one that tells them apart.

The paper (Goodfellow et al., 2014) trains a generator against a discriminator. For a fixed generator the best
discriminator is p_data / (p_data + p_g), the value of the game then is -log 4 plus twice the Jensen-Shannon divergence,
and only p_g = p_data is optimal. On MNIST it reports a log-likelihood under Gaussian windows of 225 ± 2, against 138 ±
2 of a deep belief network.

Small, in four experiments. ``normal``: data N(3, 0.7), a generator 1-16-1 on uniform noise, a discriminator 1-32-32-1,
1,500 steps of both with Adam at 1e-3 in batches of 128 (of 5e-4 and 1e-3 the second came nearer on seed 100); curves
show the discriminator beside the best one for a normal law with the samples' mean and deviation, in closed form.
``digits/...``: the 8 x 8 digits in 0..1 (four fifths of the training part to learn from, one to choose windows by, the
test part to score), noise of 16, generator 16-128-128-64 with a sigmoid, discriminator of two maxout layers of 64 with
4 pieces and dropout of 0.3, 2,000 steps of Adam (1e-3, beta 0.5) in batches of 100. Arms: both losses of the generator;
``gaussian``, samples of a normal law with the data's mean and covariance; ``dbn``, the library's deep belief network
64-256-256 (40 passes a layer); ``untrained``, a generator as drawn. All are judged by 2,000 samples under windows. On
seed 100, with 3,000 steps, the rates 2e-4, 5e-4 and 1e-3 were tried for the game (the last was best) and 20 and 40
passes for the machines (the second). ``start/...``: the generator's gradient in the first 50 steps against a
discriminator that 100 steps against an untrained generator made sure. ``theory``: the value of the game on a grid of
400 places.

Paper: MNIST with the authors' networks (100-1200-1200-784, two maxout layers of 240 with 5 pieces), 10,000 samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from neurarium.data import Arrays, Batches, load
from neurarium.lab import Arm, Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, ratio, value
from neurarium.layers import Maxout
from neurarium.learning import AdversarialGame
from neurarium.models import DeepBeliefNetwork
from neurarium.objectives import AdversarialLoss
from neurarium.probes import discriminator_report, mode_coverage, parzen_log_likelihood
from neurarium.studies.models._pictures import record_grid
from neurarium.theory import GaussianDiscriminator, game_value, jensen_shannon, optimal_discriminator


@dataclass(frozen=True)
class Normal:
    """A normal law to follow."""

    mean: float = 3.0
    deviation: float = 0.7
    steps: int = 1_500
    batch_size: int = 128
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Digits:
    """Images to follow, and by what."""

    model: Literal["non_saturating", "minimax", "gaussian", "dbn", "untrained"] = "non_saturating"
    data: str = "digits"
    noise: int = 16
    generator: int = 128
    discriminator: int = 64
    pieces: int = 4
    dropout: float = 0.3
    steps: int = 2_000
    batch_size: int = 100
    learning_rate: float = 1e-3
    samples: int = 2_000
    machines: tuple[int, ...] = (256, 256)
    passes: int = 40
    confident_steps: int = 100


@dataclass(frozen=True)
class Theory:
    """Distributions over places."""

    places: int = 400


def normal(settings: Normal, run: Run) -> Metrics:
    """One dimension: the law of the samples and the discriminator along the game."""
    torch.manual_seed(run.seed)
    generator = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1)).to(run.device)
    critic = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)).to(run.device)
    source = torch.Generator().manual_seed(run.seed)
    game = AdversarialGame(generator, critic, features=1, source=source)
    optimizers = adams(settings.learning_rate, generator, critic)

    def real(count: int) -> Tensor:
        return (settings.mean + settings.deviation * torch.randn(count, 1, generator=source)).to(run.device)

    stages = {settings.steps * part // 3: f"{part} of 3" for part in (1, 2, 3)}
    for step in run.track(range(1, settings.steps + 1), "steps"):
        game.step(real(settings.batch_size), *optimizers)
        if step % max(1, settings.steps // 50) == 0:
            look = game.sample(1000, torch.Generator().manual_seed(step))
            run.record(step=step, moment=float(look.mean()), which="mean of the samples")
            run.record(step=step, moment=float(look.std()), which="their deviation")
        if step in stages and run.seed == 0:
            curves(game, settings, run, stages[step])
    samples, data = game.sample(10_000, source), real(10_000)
    report = discriminator_report(critic, data, samples)
    return {
        "mean_error": float(samples.mean()) - settings.mean,
        "deviation_ratio": float(samples.std()) / settings.deviation,
        "unsure": float((report.real - 0.5).abs().mean()),
        "discriminator_accuracy": report.accuracy,
    }


def adams(rate: float, *players: nn.Module) -> list[torch.optim.Optimizer]:
    """One optimizer for each player."""
    return [torch.optim.Adam(player.parameters(), rate, betas=(0.5, 0.999), fused=True) for player in players]


def curves(game: AdversarialGame, settings: Normal, run: Run, stage: str) -> None:
    """The discriminator over the line, and the best one for a normal law like the samples'."""
    samples = game.sample(5_000, torch.Generator().manual_seed(0)).double().cpu()
    here = torch.tensor([settings.mean, settings.deviation**2], dtype=torch.float64)
    best = GaussianDiscriminator(
        here[:1], here[1:, None], samples.mean(0), samples.var(0, keepdim=True).clamp_min(1e-6)
    )
    x = torch.linspace(0, 6, 61)[:, None]
    with torch.no_grad():
        found = game.discriminator(x.to(run.device)).sigmoid().flatten().cpu()
    for place, own, ideal in zip(
        x.flatten().tolist(), found.tolist(), best(x.double()).sigmoid().tolist(), strict=True
    ):
        run.record(x=place, discriminator=own, line=f"{stage} of the game")
        run.record(x=place, discriminator=ideal, line=f"{stage}, best possible")


def parts(settings: Digits, run: Run) -> tuple[Arrays, Arrays, Arrays]:
    """Images in 0..1 to learn from, to choose windows by and to be scored on."""
    split = load(settings.data).flat()
    top = float(split.train.x.max())
    split = split.map_inputs(lambda x: x.float() / top).to(run.device)
    shuffled = split.train.subset(len(split.train), seed=run.seed)
    held = len(shuffled) // 5
    return shuffled[held:], shuffled[:held], split.test


def players(settings: Digits, pixels: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a seed."""
    width, units = settings.generator, settings.discriminator
    generator = nn.Sequential(
        nn.Linear(settings.noise, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, pixels),
        nn.Sigmoid(),
    )  # fmt: skip
    critic = nn.Sequential(
        Maxout(pixels, units, settings.pieces), nn.Dropout(settings.dropout), Maxout(units, units, settings.pieces),
        nn.Dropout(settings.dropout), nn.Linear(units, 1),
    )  # fmt: skip
    return generator, critic


def digits(settings: Digits, run: Run) -> Metrics:
    """Samples of one model under windows, their modes, and how they look."""
    train, validation, test = parts(settings, run)
    torch.manual_seed(run.seed)
    source = torch.Generator().manual_seed(run.seed)
    side = math.isqrt(train.x.shape[1])
    if settings.model == "gaussian":
        scatter = torch.linalg.cholesky(torch.cov(train.x.T.double()) + 1e-6 * torch.eye(train.x.shape[1]).to(train.x))
        z = torch.randn(settings.samples, train.x.shape[1], generator=source, dtype=torch.float64)
        samples = (train.x.mean(0) + z.to(run.device) @ scatter.T).float()
        rows = [samples[:10]]
    elif settings.model == "dbn":
        machines = DeepBeliefNetwork((train.x.shape[1], *settings.machines), generator=source).to(run.device)
        machines.pretrain(
            Batches(train, settings.batch_size, shuffle=True, seed=run.seed), epochs=settings.passes, generator=source
        )
        samples = machines.sample(settings.samples, steps=100, generator=source)
        rows = [samples[:10]]
    else:
        samples, rows = played(settings, train, source, run)
    found = parzen_log_likelihood(samples, test.x, validation=validation.x)
    modes = mode_coverage(samples, train.x, train.y)
    record_grid(run, [row.reshape(-1, side, side) for row in [*rows, train.x[modes.nearest[:10]]]])
    for label, share in enumerate(modes.shares.tolist()):
        run.record(digit=label, share_of_samples=share)
    return {
        "parzen": found.mean, "parzen_error": found.standard_error, "bandwidth": found.bandwidth,
        "modes": float(modes.covered), "mode_divergence": modes.divergence,
    }  # fmt: skip


def played(settings: Digits, train: Arrays, source: torch.Generator, run: Run) -> tuple[Tensor, list[Tensor]]:
    """Samples of a generator after its game, ten of one noise along it, the last row being the first ten samples."""
    generator, critic = (player.to(run.device) for player in players(settings, train.x.shape[1]))
    loss = AdversarialLoss("minimax" if settings.model == "minimax" else "non_saturating")
    game = AdversarialGame(generator, critic, loss, features=settings.noise, source=source)
    optimizers = adams(settings.learning_rate, generator, critic)
    rows, step = [], 0
    steps = 0 if settings.model == "untrained" else settings.steps
    stages = {steps // 30, steps // 6, steps // 2}
    batches = Batches(train, settings.batch_size, shuffle=True, drop_last=True, seed=run.seed)
    for _ in run.track(range(math.ceil(steps / len(batches))), "passes"):
        for x, _ in batches:
            step += 1
            if step > steps:
                break
            game.step(x, *optimizers)
            if step in stages:
                rows.append(game.sample(10, torch.Generator().manual_seed(0)))
            if step % max(1, steps // 40) == 0:
                watch(game, train.x, step, run)
    if run.seed == 0 and settings.model == "non_saturating":
        walk = game.walk(5, 12, torch.Generator().manual_seed(1))
        side = math.isqrt(train.x.shape[1])
        record_grid(run, list(walk.reshape(5, 12, side, side)), value="ink_on_the_way")
    first = game.sample(10, torch.Generator().manual_seed(0))
    samples = torch.cat([first, game.sample(settings.samples - 10, source)])
    return samples, [*rows, first]


def watch(game: AdversarialGame, x: Tensor, step: int, run: Run) -> None:
    """How sure the discriminator is."""
    report = discriminator_report(game.discriminator, x, game.sample(500, torch.Generator().manual_seed(step)))
    run.record(game_step=step, mean_d=float(report.real.mean()), of="data")
    run.record(game_step=step, mean_d=float(report.fake.mean()), of="samples")


def start(settings: Digits, run: Run) -> Metrics:
    """The generator's gradient in its first steps against a discriminator that is sure."""
    train, _, _ = parts(settings, run)
    torch.manual_seed(run.seed)
    generator, critic = (player.to(run.device) for player in players(settings, train.x.shape[1]))
    loss = AdversarialLoss("minimax" if settings.model == "minimax" else "non_saturating")
    game = AdversarialGame(
        generator, critic, loss, features=settings.noise, source=torch.Generator().manual_seed(run.seed)
    )
    first, second = adams(settings.learning_rate, generator, critic)
    norms: list[float] = []
    order = torch.Generator().manual_seed(run.seed)
    for step in range(settings.confident_steps + 50):
        x = train.x[torch.randint(len(train), (settings.batch_size,), generator=order).to(run.device)]
        moving = step >= settings.confident_steps
        game.step(x, first if moving else None, second)
        if moving:
            norms.append(
                math.sqrt(sum(float(p.grad.square().sum()) for p in generator.parameters() if p.grad is not None))
            )
            run.record(early_step=len(norms), gradient_norm=norms[-1])
    return {"gradient_norm": sum(norms) / len(norms)}


def theory(settings: Theory, run: Run) -> Metrics:
    """The value of the game at the best discriminator against the divergence, for random laws over places."""
    generator = torch.Generator().manual_seed(run.seed)
    p, q = (4 * torch.randn(2, settings.places, generator=generator, dtype=torch.float64)).softmax(1)
    best = optimal_discriminator(p, q)
    value_at_best = game_value(p, q, best)
    other = torch.rand(100, settings.places, generator=generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-3)
    above = max(float(game_value(p, q, d)) for d in torch.lerp(best.expand(100, -1), other, 0.05))
    for place in range(21):
        mixed = torch.lerp(q, p, place / 20)
        run.record(
            share_of_data=place / 20, value_of_the_game=float(game_value(p, mixed, optimal_discriminator(p, mixed)))
        )
    return {
        "identity_error": float(value_at_best + math.log(4) - 2 * jensen_shannon(p, q)),
        "margin_over_others": float(value_at_best) - above,
        "value_at_equality": float(game_value(p, p, optimal_discriminator(p, p))) + math.log(4),
    }


AnySettings = Normal | Digits | Theory


def smoke(settings: AnySettings) -> AnySettings:
    """Seconds: whether it runs."""
    if isinstance(settings, Normal):
        return replace(settings, steps=30)
    if isinstance(settings, Digits):
        return replace(settings, steps=30, samples=50, machines=(20,), passes=1, confident_steps=5)
    return replace(settings, places=50)


def paper(settings: AnySettings) -> AnySettings:
    """The authors' networks on MNIST."""
    if isinstance(settings, Digits):
        return replace(
            settings, data="mnist", noise=100, generator=1_200, discriminator=240, pieces=5, steps=300_000,
            samples=10_000, machines=(500, 500, 2_000), passes=50,
        )  # fmt: skip
    return settings


GAME = "digits/non-saturating"

STUDY = Study(
    paper=Paper("Generative Adversarial Networks", "Goodfellow et al.", 2014, "1406.2661"),
    trial=None,
    arms={
        "normal": Arm(normal, Normal()),
        GAME: Arm(digits, Digits("non_saturating")),
        "digits/minimax": Arm(digits, Digits("minimax")),
        "digits/gaussian": Arm(digits, Digits("gaussian")),
        "digits/dbn": Arm(digits, Digits("dbn")),
        "digits/untrained": Arm(digits, Digits("untrained")),
        "start/non-saturating": Arm(start, Digits("non_saturating")),
        "start/minimax": Arm(start, Digits("minimax")),
        "theory": Arm(theory, Theory()),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "samples come to follow the data, and the discriminator no longer knows", "Fig. 1, theorem 1",
            all_of(
                abs(value("mean_error", "normal")) < 0.25, value("deviation_ratio", "normal") > 0.6,
                value("deviation_ratio", "normal") < 1.4, value("unsure", "normal") < 0.12,
            ),
        ),
        Claim(
            "the game is what makes samples likely", "Table 1",
            difference("parzen", GAME, "digits/untrained") > 20,
        ),
        Claim(
            "its samples are likelier under windows than a deep belief network's", "Table 1",
            difference("parzen", GAME, "digits/dbn") > 0, published="225 ± 2 against 138 ± 2 on MNIST",
        ),
        Claim(
            "early on the non-saturating loss has the stronger gradient", "section 3",
            ratio("gradient_norm", "start/non-saturating", "start/minimax") > 5,
        ),
        Claim(
            "the value at the best discriminator is -log 4 and twice the divergence", "theorem 1",
            all_of(
                abs(value("identity_error", "theory")) < 1e-6, abs(value("value_at_equality", "theory")) < 1e-6,
                value("margin_over_others", "theory") > 0,
            ),
        ),
    ],
    figures=[
        Heatmap(
            "Samples along the game; the bottom row shows the training images nearest to the row above",
            x="column", y="row", value="ink",
            arms=(GAME, "digits/minimax", "digits/dbn", "digits/gaussian"),
            note="Ten samples of seed 0; of a game, the same noise after 1/30, 1/6, 1/2 and all of the steps.",
        ),
        Heatmap(
            "Walks between pairs of noise vectors", x="column", y="row", value="ink_on_the_way", arms=(GAME,),
            note="Each row goes in a straight line from one random noise vector to another.",
        ),
        Curve(
            "The discriminator beside the best possible one", x="x", y="discriminator", series="line", arms=("normal",),
            note="The best one is that of two normal laws, the data's and one with the samples' mean and deviation.",
        ),
        Curve(
            "One dimension: mean and deviation of the samples (3 and 0.7 in the data)", x="step", y="moment",
            series="which", arms=("normal",),
        ),
        Curve("How sure the discriminator is", x="game_step", y="mean_d", series="of"),
        Curve("The generator's gradient against a sure discriminator", x="early_step", y="gradient_norm", log_y=True),
        Bars("Log-likelihood under windows, in nats", metric="parzen"),
        Curve("Digits among the samples", x="digit", y="share_of_samples"),
        Curve("The value of the game as the samples' law nears the data's", x="share_of_data", y="value_of_the_game"),
    ],
    seeds=(3, 5),
)  # fmt: skip
