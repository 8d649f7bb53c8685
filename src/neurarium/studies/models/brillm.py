"""A language model without embedding, attention or read-out: a signal flows along edges, its energy is the logit.

BriLLM gives every ordered pair of tokens a matrix. The paper reports a falling loss and case studies for 4,000 Chinese
characters or pieces, width 32 and 1 to 2 billion parameters ("GPT-1 level"), a size that does not depend on the length
of the context, and no perplexity. Here it stands beside n-grams, an LSTM and a transformer.

Small: English fortunes in lower case, the 32 commonest symbols, windows of 16, batches of 32, 200 steps of AdamW. Arms:
the chain of the paper's equations, the mixture of the released code, that with its reversed positions, the chain
without positions, and the chain whose 512 rarest of 1,024 edges share one matrix (`shared-half`), all of width 16
(279,000 parameters) at 1e-2; an LSTM of 128 units (5e-3), a transformer of 2 layers of width 64 with rotary positions
(3e-3); counts of bigrams and trigrams, 0.1 added to each. The rates were fixed before the run; warm-up (10 steps),
cosine and clipping are the same for all that are trained. Loss in nats a character on windows of unseen text, of 16 and
(for the length) of 48.

Paper: fortunes' Chinese poems, 4,000 characters, width 32, edges that never occur shared, 400 negatives, windows of 32,
batches of 256, 1,500 steps at 5e-2 with warm-up; the paper's Wikipedia is the user's to bring (``--set corpus=FILE``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.data import Arrays, Batches
from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.layers import SharedEdges
from neurarium.models import (
    RotaryDecoder,
    SequenceReadout,
    SignalFlowLanguageModel,
    edge_counts,
    frequent_successors,
)
from neurarium.probes import edge_energies
from neurarium.studies.models._texts import Text, batches, learn, loss_on, small_text, windows

Kind = Literal["signal", "lstm", "transformer", "bigram", "trigram"]


@dataclass(frozen=True)
class Settings:
    """An arm, its text and its sizes."""

    kind: Kind = "signal"
    memory: Literal["chain", "mixture"] = "chain"
    positions: Literal["sinusoidal", "released"] | None = "sinusoidal"
    own_edges: int = 0  # the commonest, with a matrix each; 0 for all
    negatives: int = 0  # the commonest successors; 0 for all tokens
    corpus: str = "fortunes-en"
    symbols: int = 32
    width: int = 16
    hidden: int = 128  # of the LSTM
    d_model: int = 64  # of the transformer
    length: int = 16
    long: int = 48
    batch_size: int = 32
    steps: int = 200
    learning_rate: float = 1e-2
    warm_up: int = 10
    tests: int = 512


class Counts(nn.Module):
    """Logarithms of how often a token follows the one or two before it; 0.1 is added to each count."""

    def __init__(self, tokens: Tensor, num_tokens: int, before: int) -> None:
        super().__init__()
        self.num_tokens, self.before = num_tokens, before
        pieces = tokens.unfold(0, before + 1, 1)
        places = num_tokens ** torch.arange(before, -1, -1, device=tokens.device)
        counts = torch.bincount((pieces * places).sum(1), minlength=num_tokens ** (before + 1)).float() + 0.1
        table = counts.view(-1, num_tokens)
        self.register_buffer("table", (table / table.sum(1, keepdim=True)).log())
        self.table: Tensor
        self.shorter = Counts(tokens, num_tokens, before - 1) if before > 1 else None

    def forward(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of the next token; a window's first ones know only what stands in the window."""
        index = tokens
        if self.shorter is not None:
            index = tokens[:, 1:] + self.num_tokens * tokens[:, :-1]
            return torch.cat([self.shorter(tokens[:, :1]), self.table[index]], 1)
        return self.table[index]


class OneHot(nn.Module):
    """Tokens as unit vectors."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, length] -> [batch, length, num_tokens]."""
        return one_hot(tokens, self.num_tokens).float()


def trial(settings: Settings, run: Run) -> Metrics:
    """Losses on unseen text, by place, and what the edges hold."""
    text = small_text(settings.corpus, settings.symbols)
    model = build(settings, text).to(run.device)
    test = windows(text.test, settings.length, settings.tests).to(run.device)
    every = max(1, settings.steps // 10)

    def watch(step: int) -> None:
        if step % every == 0:
            run.record(step=step, loss=loss_on(model, test[:128]))

    if settings.kind not in ("bigram", "trigram"):
        loader = batches(text.train.to(run.device), settings.length, settings.batch_size, settings.steps, run.seed)
        learn(model, run.track(loader, "steps"), settings.steps, settings.learning_rate, settings.warm_up, watch=watch)
    long = windows(text.test, settings.long, settings.tests // 2).to(run.device)
    places = by_place(model, long)
    for place, loss in enumerate(places.tolist()):
        run.record(place=place + 1, loss_there=loss)
    metrics = {
        "loss": loss_on(model, test),
        "loss_early": float(places[settings.length // 2 : settings.length].mean()),
        "loss_late": float(places[2 * settings.length : 3 * settings.length].mean()),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if settings.kind == "signal":
        found = edge_energies(model, Batches(test, 128))
        metrics["rank_correlation"] = found.rank_correlation
        if run.seed == 0 and settings.memory == "chain" and settings.positions:
            draw(model, text, found.energies, test, run)
    return metrics


def build(settings: Settings, text: Text) -> nn.Module:
    """The arm's model."""
    size = len(text.alphabet)
    if settings.kind in ("bigram", "trigram"):
        return Counts(text.train, size, 1 if settings.kind == "bigram" else 2)
    if settings.kind == "lstm":
        cell = nn.LSTM(size, settings.hidden, batch_first=True)
        return nn.Sequential(OneHot(size), SequenceReadout(cell, nn.Linear(settings.hidden, size)))
    if settings.kind == "transformer":
        return RotaryDecoder(size, settings.d_model, 4, 2)
    counts = edge_counts(text.train, size)
    options: dict[str, Any] = {}
    if settings.own_edges:
        rarest = counts.flatten().sort(descending=True).values[min(settings.own_edges, counts.numel() // 2) - 1]
        options["edges"] = SharedEdges.from_counts(counts, max(1, int(rarest)))
    if settings.negatives:
        options["negatives"] = frequent_successors(counts, min(settings.negatives, size))
    return SignalFlowLanguageModel(
        size, settings.width, memory=settings.memory, positions=settings.positions, **options
    )  # fmt: skip


@torch.no_grad()
def by_place(model: nn.Module, data: Arrays) -> Tensor:
    """Mean loss at each place of a window."""
    losses = []
    for x, y in Batches(data, 128):
        said = model.eval()(x).log_softmax(-1)
        losses.append(-said.gather(-1, y[..., None])[..., 0])
    return torch.cat(losses).mean(0)


@torch.no_grad()
def draw(model: nn.Module, text: Text, energies: Tensor, test: Arrays, run: Run) -> None:
    """The edges' energies beside the text's bigrams, and the paths that are open to a signal along one window."""
    counts = edge_counts(text.train, len(text.alphabet)).double() + 0.1
    said = (counts / counts.sum(1, keepdim=True)).log()
    mean = energies.nanmean(1, keepdim=True)
    for u in range(len(said)):
        for v in range(len(said)):
            held = float((energies - mean)[u, v].nan_to_num())
            run.record(following=v, token=-u, energy=round(held, 2), log_probability=round(float(said[u, v]), 2))
    shares = model(test.x[:1])[0].softmax(-1)
    for step, row in enumerate(shares.tolist()):
        for v, share in enumerate(row):
            taken = v == int(test.y[0, step])
            run.record(step_of_signal=step, arrives=v, share=round(share, 3), path=float(taken))


STUDY = Study(
    paper=Paper("BriLLM: Brain-inspired Large Language Model", "Zhao et al.", 2025, "2503.11299"),
    trial=trial,
    arms={
        "chain": Settings(),
        "mixture": Settings(memory="mixture"),
        "mixture-released-positions": Settings(memory="mixture", positions="released"),
        "chain-no-positions": Settings(positions=None),
        "shared-half": Settings(own_edges=512),
        "lstm": Settings("lstm", learning_rate=5e-3),
        "transformer": Settings("transformer", learning_rate=3e-3),
        "bigram": Settings("bigram"),
        "trigram": Settings("trigram"),
    },
    scales={
        "smoke": {"corpus": "torch", "symbols": 12, "width": 4, "hidden": 8, "d_model": 8, "length": 8, "long": 24,
                  "steps": 4, "tests": 32, "warm_up": 1, "batch_size": 8},
        "paper": {"corpus": "fortunes-zh", "symbols": 4000, "width": 32, "length": 32, "long": 96, "steps": 1500,
                  "batch_size": 256, "learning_rate": 5e-2, "warm_up": 200, "own_edges": 2_000_000, "negatives": 400,
                  "hidden": 1024, "d_model": 512},
    },
    claims=[
        Claim(
            "the signal remembers more than the last token", "section 3",
            all_of(difference("loss", "bigram", "chain") > 0.2, difference("loss", "bigram", "mixture") > 0.1),
        ),
        Claim(
            "it is as good a language model as a transformer after as many steps", "section 5",
            difference("loss", "mixture", "transformer") < 0.1, published="\"GPT-1 level\", by case studies",
        ),
        Claim(
            "the chain goes on beyond the length of training", "section 3",
            value("loss_late", "chain") - value("loss_early", "chain") < 0.05,
        ),
        Claim(
            "the released mixture goes on beyond the length of training", "section 3",
            value("loss_late", "mixture") - value("loss_early", "mixture") < 0.05,
        ),
        Claim(
            "one matrix for all rare edges costs nothing", "section 4",
            difference("loss", "shared-half", "chain") < 0.03,
            published="13.0 % (Chinese) and 5.7 % (English) of the parameters are left",
        ),
        Claim(
            "edges can be read: their energies rank as the bigrams do", "section 3",
            value("rank_correlation", "chain") > 0.6,
        ),
    ],
    figures=[
        Curve("Loss on unseen text", x="step", y="loss", note="Nats a character, windows of 16."),
        Curve(
            "Loss by place in a window of 48; all were trained on 16", x="place", y="loss_there",
            arms=("chain", "chain-no-positions", "mixture", "lstm", "transformer", "trigram"),
        ),
        Bars("Loss", metric="loss"),
        Heatmap(
            "Energy of each edge, against the mean of its source", x="following", y="token", value="energy",
            arms=("chain",), note="Rows: the token, downwards; columns: the token that follows, in alphabetical order.",
        ),
        Heatmap(
            "Log-probability of each bigram of the text", x="following", y="token", value="log_probability",
            arms=("chain",),
        ),
        Heatmap(
            "Paths open to the signal along a text it has not seen: share of each next token, step by step",
            x="step_of_signal", y="arrives", value="share", arms=("chain",),
        ),
        Heatmap("The path that the text takes", x="step_of_signal", y="arrives", value="path", arms=("chain",)),
    ],
    seeds=(3, 3),
)  # fmt: skip
