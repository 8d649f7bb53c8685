"""CTC from a uniform start ends in blank nearly everywhere; dividing by the label prior cures it.

The paper (Zeyer, Schlüter and Ney, 2021) shows that at uniform posteriors the gradient of the full-sum loss counts
alignments, that blank wins this count, and that gradient descent amplifies it. On the input b^n a^2n b^n with target
"a" a perfect frame classifier exists, yet a feed-forward net trained with CTC emits nothing. Dividing by the label
prior, with or without its gradient, or a generative model, finds the classifier. The longer the input for its target,
the more blank. These are pictures in the paper, so the margins are ours, written before any run.

Template arms: every loss on the paper's models (bias, memory, feed-forward, one number per symbol, with and without
bias) from zero, 100 steps of SGD at 0.1, n = 4 and 10. They hardly depend on the seed, so what they show is a
fact and no claim: it stands in the table of arms (label errors, blank's mass, steps to a solution).
At small only CTC and the priors see all models, the other losses three (bias, memory, feed-forward without bias). The
generative loss has one model, its table.

Sequence arms (section 6.1): silence 2n, "1" n, "2" 3n, "3" 2n, silence 2n, read by a BLSTM (64 units at small), and a
second sequence as test. The claim on length depends on the optimizer: with the paper's Adam at 0.1 for 50 steps CTC
ended on seed 100 in alignments without any blank at n = 1, 5 and 9 alike, where the claim fails. The arms use 0.01 for
200 steps, chosen after that run; 0.03 and 0.003 gave the same picture as 0.01.

Speech arms: words with known times, joined with random pauses, a small convolutional net, a label for each word; the
prior's exponent is swept. At small and smoke the words are *simulated*, sequences of random spectra with random
durations in noise; at paper they are the recorded digits of the Free Spoken Digit Dataset. Boundaries are those of the
best alignment under the plain posteriors of each model. Durations, noise, steps and the learning rate (of .002, .005
and .01 the best for CTC) were set on seeds 100 to 102 so that CTC learns to recognise the words, all metrics in view.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, difference, value
from neurarium.probes import peakiness
from neurarium.speech import (
    BiasModel,
    BlstmModel,
    FullSumLoss,
    GenerativeFullSumLoss,
    JoinedWords,
    MemoryModel,
    SymbolLikelihood,
    SymbolModel,
    SymbolOddsModel,
    ctc_graph,
    full_sum,
    greedy_labels,
    label_error_rate,
    viterbi,
)
from neurarium.studies.speech._joined import recorded_digits, simulated_speech

LOSSES: dict[str, dict[str, Any]] = {
    "ctc": {},
    "viterbi": {"viterbi": 1.0},
    "half_viterbi": {"viterbi": 0.5},
    "rebalance": {"rebalance": True},
    "prior_stop": {"prior": "stop"},
    "prior_through": {"prior": "through"},
    "renormalize": {"prior": "renormalize"},
    "silence": {"topology": "silence"},
    "labels": {"topology": "labels"},
}
CORE = ("feed_forward", "bias", "memory")
MODELS = (*CORE, "feed_forward_bias", "odds", "memory_bias", "memory_random")


@dataclass(frozen=True)
class Settings:
    """What the arms and scales change."""

    task: Literal["template", "sequence", "speech"] = "template"
    loss: str = "ctc"
    prior_scale: float = 1.0
    models: tuple[str, ...] = MODELS
    lengths: tuple[int, ...] = (4, 10)
    steps: int = 100
    lr: float = 0.1
    grid: int = 11
    hidden: int = 64
    recorded: bool = False
    utterances: int = 320


def objective(settings: Settings) -> FullSumLoss:
    """The loss of an arm, summed over the batch."""
    if settings.loss == "generative":
        return GenerativeFullSumLoss(reduction="sum")
    return FullSumLoss(**LOSSES[settings.loss], prior_scale=settings.prior_scale, reduction="sum")


def trial(settings: Settings, run: Run) -> Metrics:
    """The part of the study that the arm belongs to."""
    return {"template": template, "sequence": sequence, "speech": speech}[settings.task](settings, run)


# b^n a^2n b^n -> a


def template(settings: Settings, run: Run) -> Metrics:
    """Every model of the paper on the two lengths; then where each start of the two-number model ends."""
    metrics: dict[str, float] = {}
    for n in run.track(settings.lengths, "lengths"):
        x = torch.tensor([[0] * n + [1] * (2 * n) + [0] * n])
        if settings.loss == "generative":
            models: dict[str, nn.Module] = {"feed_forward": SymbolLikelihood(2, 2)}
        else:
            random = MemoryModel(4 * n, 2)
            nn.init.normal_(random.weight)
            models = {"feed_forward": SymbolModel(2, 2), "feed_forward_bias": SymbolModel(2, 2, bias=True)}
            models |= {"bias": BiasModel(2), "odds": SymbolOddsModel(2), "memory": MemoryModel(4 * n, 2)}
            models |= {"memory_bias": MemoryModel(4 * n, 2, bias=True), "memory_random": random}
        for name in [name for name in settings.models if name in models]:
            model = models[name]
            found = fit_template(model, x, settings, run if name == "feed_forward" else None, n)
            metrics |= {f"{key}_{name}_n{n}": number for key, number in found.items()}
    for key in ("label_error", "frame_error", "blank_mass", "steps_to_solve"):  # the worse of both lengths
        metrics[key] = max(metrics[f"{key}_feed_forward_n{n}"] for n in settings.lengths)
    if settings.loss in ("ctc", "prior_stop"):
        basins(settings, run)
    return metrics


def fit_template(model: nn.Module, x: Tensor, settings: Settings, run: Run | None, n: int) -> dict[str, float]:
    """Train one model on one template; label error, frame error, blank mass, steps until all frames are right."""
    loss, target, lengths = objective(settings), torch.tensor([[1]]), torch.tensor([x.shape[1]])
    optimizer = torch.optim.SGD(model.parameters(), settings.lr)
    solved = settings.steps
    for step in range(settings.steps + 1):
        scores = model(x)
        posteriors = scores.detach().log_softmax(-1)  # of a generative model: under equal priors
        frame_error = float((posteriors.argmax(-1) != x.t()).float().mean())
        if frame_error == 0.0:
            solved = min(solved, step)
        if run and step % 5 == 0:
            run.record(step=step, blank_mass=peakiness(posteriors).blank_mass, template=f"n = {n}")
        if step < settings.steps:
            optimizer.zero_grad()
            loss(scores, target, lengths, torch.tensor([1])).backward()
            optimizer.step()
    return {
        "label_error": label_error_rate(greedy_labels(posteriors), [[1]]),
        "frame_error": frame_error,
        "blank_mass": peakiness(posteriors).blank_mass,
        "steps_to_solve": float(solved),
    }


def basins(settings: Settings, run: Run) -> None:
    """Follow the gradient from a grid of starts (log-odds of "a" on input a, on input b), all at once."""
    n, axis = max(settings.lengths), torch.linspace(-5, 5, settings.grid)
    theta = torch.cartesian_prod(axis, axis).requires_grad_()
    x = torch.tensor([0] * n + [1] * (2 * n) + [0] * n)
    graph = ctc_graph([[1]] * len(theta))
    start = theta.detach().clone()
    optimizer = torch.optim.SGD([theta], settings.lr)
    for _ in range(settings.steps):
        odds = theta.flip(1)[:, x].t()
        scores = torch.stack([torch.zeros_like(odds), odds], -1).log_softmax(-1)
        if settings.loss == "prior_stop":  # each start has a prior of its own
            scores = scores - settings.prior_scale * (scores.logsumexp(0) - math.log(len(x))).detach()
        optimizer.zero_grad()
        full_sum(scores, graph).sum().backward()
        optimizer.step()
    end = theta.detach().sigmoid()
    for (on_a, on_b), (p_a, p_b) in zip(start.tolist(), end.tolist()):
        run.record(theta_a=on_a, theta_b=on_b, contrast=p_a - p_b)


# T / N


def sequence(settings: Settings, run: Run) -> Metrics:
    """Three labels and silence, n times as long; blank mass before and after, and on another sequence."""
    loss = objective(settings)
    metrics: dict[str, float] = {}
    for n in run.track(settings.lengths, "lengths"):
        x = spelled((0, 2), (1, 1), (2, 3), (3, 2), (0, 2), n=n)
        other = spelled((0, 1), (2, 2), (1, 3), (3, 1), (0, 3), n=n)
        target, lengths = torch.tensor([[1, 2, 3]]), torch.tensor([10 * n])
        model = BlstmModel(4, 4, settings.hidden)
        before, below = peakiness(model(x)).blank_mass, settings.steps
        optimizer = torch.optim.Adam(model.parameters(), settings.lr)
        for step in range(settings.steps):
            optimizer.zero_grad()
            total = loss(model(x), target, lengths, torch.tensor([3]))
            below = min(below, step) if float(total.detach()) < 1 else below
            total.backward()
            optimizer.step()
        posteriors, unseen = model(x).detach(), model(other).detach()
        found = {
            "blank_mass": peakiness(posteriors).blank_mass,
            "blank_rise": peakiness(posteriors).blank_mass - before,
            "label_error": label_error_rate(greedy_labels(posteriors), [[1, 2, 3]]),
            "frame_error": float((posteriors.argmax(-1) != x.t()).float().mean()),
            "test_blank_mass": peakiness(unseen).blank_mass,
            "test_label_error": label_error_rate(greedy_labels(unseen), [[2, 1, 3]]),
            "steps_below_1": float(below),
        }
        metrics |= {f"{key}_n{n}": number for key, number in found.items()}
        run.record(n=n, frames_per_label=10 * n / 3, blank_after=found["blank_mass"], blank_before=before)
        if n == max(settings.lengths):
            draw_posteriors(posteriors[:, 0], ("blank", "1", "2", "3"), run)
    return metrics


def spelled(*runs: tuple[int, int], n: int) -> Tensor:
    """Symbols, each for so many times n frames: [1, frames]."""
    return torch.tensor([[symbol for symbol, times in runs for _ in range(times * n)]])


def draw_posteriors(posteriors: Tensor, names: tuple[str, ...], run: Run) -> None:
    """Record the posteriors of one utterance over time."""
    for t, row in enumerate(posteriors.exp().tolist()):
        for name, p in zip(names, row):
            run.record(frame=t, posterior=p, label=name)


# words with known times


def speech(settings: Settings, run: Run) -> Metrics:
    """Train on joined words; error, blank mass, and how far the aligned word boundaries are off."""
    generator = torch.Generator().manual_seed(run.seed)
    words = recorded_digits if settings.recorded else simulated_speech
    train, test, stride, seconds = words(settings.utterances, generator)
    width = settings.hidden
    model = nn.Sequential(
        nn.Conv1d(train.x.shape[2], width, 7, stride=stride, padding=3),
        nn.ReLU(),
        nn.Conv1d(width, width, 7, padding=3),
        nn.ReLU(),
        nn.Conv1d(width, width, 7, padding=3),
        nn.ReLU(),
        nn.Conv1d(width, 11, 1),
    ).to(run.device)
    loss, optimizer = objective(settings), torch.optim.Adam(model.parameters(), settings.lr)

    def scores(part: JoinedWords) -> tuple[Tensor, Tensor]:
        logits = model(part.x.to(run.device).transpose(1, 2))
        return logits.permute(2, 0, 1).log_softmax(-1), (part.lengths + stride - 1) // stride

    for step in run.track(range(settings.steps)):
        batch = train[torch.randint(len(train), (16,), generator=generator)]
        log_probs, lengths = scores(batch)
        total = loss(log_probs, batch.targets, lengths, batch.target_lengths) / len(batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if step % 10 == 0:
            run.record(update=step, speech_blank=float(log_probs[..., 0].exp().mean().detach()))
    with torch.no_grad():
        log_probs, lengths = scores(test)
    log_probs = log_probs.cpu()
    paths = viterbi(log_probs, ctc_graph(test.targets, test.target_lengths), lengths).states
    states = 2 * torch.arange(test.targets.shape[1]) + 1
    inside = paths[..., None] == states
    first, last = inside.int().argmax(1), paths.shape[1] - inside.flip(1).int().argmax(1)
    off = (torch.stack([first, last], -1) * stride - test.spans).abs()[inside.any(1)]
    found = peakiness(log_probs, lengths)
    shown = log_probs[: int(lengths[0]), 0].exp()
    draw_posteriors(torch.stack([shown[:, 0], shown[:, 1:].sum(1)], 1).log(), ("blank", "any word"), run)
    references = [row[:many].tolist() for row, many in zip(test.targets, test.target_lengths)]
    return {
        "label_error": label_error_rate(greedy_labels(log_probs, lengths), references),
        "blank_mass": found.blank_mass,
        "frames_per_label": found.frames_per_label,
        "entropy": found.entropy,
        "boundary_error_ms": 1000 * seconds * float(off.mean()),
    }


SPEECH = Settings(task="speech", steps=300, lr=0.01)
SEQUENCE = Settings(task="sequence", lengths=(1, 3, 6, 9), steps=200, lr=0.01)


def small(settings: Settings) -> Settings:
    """All models for CTC and the two priors, three of them for the other losses."""
    every = settings.loss in ("ctc", "prior_stop", "prior_through")
    return dataclasses.replace(settings, models=MODELS if every else CORE)


def smoke(settings: Settings) -> Settings:
    """A few steps of everything."""
    return dataclasses.replace(settings, steps=3, grid=3, hidden=8, utterances=16)


def paper_scale(settings: Settings) -> Settings:
    """The paper's sizes, and recorded digits."""
    if settings.task == "speech":
        return dataclasses.replace(settings, recorded=True, steps=3000, lr=2e-3, hidden=128, utterances=2000)
    if settings.task == "sequence":
        return dataclasses.replace(settings, hidden=500, lengths=tuple(range(1, 10)), steps=1000, lr=1e-3)
    return dataclasses.replace(settings, grid=41)


TEMPLATES = {loss: Settings(loss=loss) for loss in (*LOSSES, "generative") if loss != "silence"}

STUDY = Study(
    paper=Paper("Why does CTC result in peaky behavior?", "Zeyer, Schlüter, Ney", 2021, arxiv="2105.14849"),
    trial=trial,
    arms={
        **TEMPLATES,
        "sequence_ctc": SEQUENCE,
        "sequence_silence": dataclasses.replace(SEQUENCE, loss="silence"),
        "sequence_prior": dataclasses.replace(SEQUENCE, loss="prior_stop"),
        "speech_ctc": SPEECH,
        "speech_prior": dataclasses.replace(SPEECH, loss="prior_stop"),
        "speech_prior_0.5": dataclasses.replace(SPEECH, loss="prior_stop", prior_scale=0.5),
        "speech_prior_0.3": dataclasses.replace(SPEECH, loss="prior_stop", prior_scale=0.3),
    },
    scales={"smoke": smoke, "small": small, "paper": paper_scale},
    claims=[
        Claim(
            "The longer the input for its target, the more blank",
            "section 6.1",
            value("blank_mass_n9", "sequence_ctc") - value("blank_mass_n1", "sequence_ctc") > 0.1,
        ),
        Claim(
            "On words joined with pauses CTC gives blank more mass than the prior does",
            "consequence",
            difference("blank_mass", "speech_ctc", "speech_prior") > 0.15,
        ),
        Claim(
            "Word boundaries are closer to the true ones with the prior",
            "consequence",
            difference("boundary_error_ms", "speech_ctc", "speech_prior") > 0,
        ),
    ],
    figures=[
        Curve(
            "One sequence after training: CTC leaves peaks in a sea of blank, the prior gives every label its frames",
            arms=("sequence_ctc", "sequence_prior"),
            x="frame",
            y="posterior",
            series="label",
        ),
        Curve(
            "An utterance of joined words: blank against all words",
            arms=("speech_ctc", "speech_prior"),
            x="frame",
            y="posterior",
            series="label",
        ),
        Heatmap(
            "Where gradient descent ends from each start: 1 is solved, 0 gives both inputs the same output",
            note="Log-odds of the label on input a (across) and on input b (up); zero, zero is the uniform start.",
            x="theta_a",
            y="theta_b",
            value="contrast",
        ),
        Curve("The longer the input for its three labels, the more blank", x="frames_per_label", y="blank_after"),
        Curve(
            "Blank mass of the feed-forward net during training; the truth is one half",
            arms=("ctc", "viterbi", "rebalance", "prior_stop", "generative"),
            x="step",
            y="blank_mass",
            series="template",
        ),
        Curve("Blank mass while training on joined words", x="update", y="speech_blank"),
        Bars("Error of the aligned word boundaries in milliseconds", metric="boundary_error_ms"),
    ],
    seeds=(3, 8),
)
