"""A fixed random projection of the output error trains the hidden blocks of very different networks.

The paper (Launay et al., 2020) trains every block with a random projection of the error at the output: graph networks
come within about a point of backpropagation, recommenders close to it, radiance fields learn visibly less (25.4 against
31.0 dB) and a transformer pays most (perplexity 52.0 against 29.8; worse with feedback inside the layers, "micro").
Training the last block alone ("shallow") does far worse everywhere.

Small: five tasks. Digits: 12,000 MNIST images, 784-256-256-10, SGD at 0.01 for all arms. Graph: a stochastic block
model of 1,000 nodes with Cora's degrees (3.2 neighbours inside and 0.7 outside of seven communities), bag-of-words
features and 20 labels each; two graph convolutions, Adam at 0.01. Fields: is a digit odd, from 64 pixels in 8 levels
each, by embeddings and a wide part, in place of click logs (which must be fetched). Picture: a network of coordinates
fits 64 x 64 pixels of a photograph, in place of a radiance field. Text: a two-layer transformer on English bytes (the
data set descriptions that ship with scikit-learn), error taken at the last hidden state, Adam at a rate that falls
linearly to 0 (the paper cuts it on plateaus). Arms of a task share data, initial weights and batches. In the last three
tasks the rate of each arm is the best of three on seed 100, held constant.

Adult, the public table nearest to click logs, is left to the paper scale: in 300 steps backpropagation itself gains
nothing there over the wide part (with products of field embeddings in it: areas of 0.898 for it, 0.898 for feedback and
0.897 for the last block alone, seed 100), so the task cannot tell rules apart.

Paper: MNIST whole, Cora, Adult, a 512 x 512 photograph and six layers of width 512. Criteo, the radiance fields and
WikiText-103 are not to be had here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from neurarium.lab import Bars, Claim, Curve, Heatmap, Metrics, Paper, Run, Study, all_of, difference, value
from neurarium.studies.learning._dfa_tasks import Settings, digits, fields, graph, picture, text


def trial(settings: Settings, run: Run) -> Metrics:
    """Train one arm on its task."""
    tasks = {"digits": digits, "graph": graph, "fields": fields, "picture": picture, "text": text}
    return tasks[settings.task](settings, run)


GRAPH = Settings(task="graph", steps=150, size=1000)
FIELDS = Settings(task="fields", steps=300, batch_size=64, size=64, lr=0.01)
PICTURE = Settings(task="picture", steps=250, size=64, lr=3e-3)
TEXT = Settings(task="text", steps=400, batch_size=8, size=64, lr=3e-3)


def smoke(settings: Settings) -> Settings:
    """A few steps on a few examples."""
    small = {"digits": 32, "graph": 200, "fields": 16, "picture": 16, "text": 16}
    return replace(settings, steps=3, batch_size=8, size=small[settings.task])


def paper(settings: Settings) -> Settings:
    """Full data, and the steps that they take."""
    changes: dict[str, dict[str, Any]] = {
        "digits": {"data": "mnist", "steps": 20 * 469, "size": 1000},
        "graph": {"data": "cora", "steps": 250},
        "fields": {"data": "adult", "steps": 5000, "batch_size": 256, "size": 400},
        "picture": {"steps": 5000, "size": 512},
        "text": {"steps": 50_000, "batch_size": 64, "size": 512},
    }
    return replace(settings, **changes[settings.task])


STUDY = Study(
    paper=Paper(
        "Direct Feedback Alignment Scales to Modern Deep Learning Tasks and Architectures", "Launay et al.", 2020,
        "2006.12878",
    ),
    trial=trial,
    arms={
        "digits-bp": Settings(rule="bp"),
        "digits-dfa": Settings(),
        "digits-fa": Settings(rule="fa"),
        "digits-shallow": Settings(rule="shallow"),
        "graph-bp": replace(GRAPH, rule="bp"),
        "graph-dfa": GRAPH,
        "graph-shallow": replace(GRAPH, rule="shallow"),
        "fields-bp": replace(FIELDS, rule="bp"),
        "fields-dfa": FIELDS,
        "fields-shallow": replace(FIELDS, rule="shallow"),
        "picture-bp": replace(PICTURE, rule="bp", lr=1e-3),
        "picture-dfa": PICTURE,
        "picture-shallow": replace(PICTURE, rule="shallow"),
        "text-bp": replace(TEXT, rule="bp"),
        "text-macro": TEXT,
        "text-micro": replace(TEXT, rule="micro"),
        "text-shallow": replace(TEXT, rule="shallow"),
    },
    scales={"smoke": smoke, "small": {}, "paper": paper},
    claims=[
        Claim(
            "on digits it comes close to backpropagation and far above the last block alone", "section 3",
            all_of(
                difference("accuracy", "digits-bp", "digits-dfa") < 0.03,
                difference("accuracy", "digits-dfa", "digits-shallow") > 0.04,
            ),
        ),
        Claim(
            "graph convolutions train with it", "Table 4",
            all_of(
                difference("accuracy", "graph-bp", "graph-dfa") < 0.03,
                difference("accuracy", "graph-dfa", "graph-shallow") > 0.03,
            ),
        ),
        Claim(
            "recommenders train with it", "Table 3",
            all_of(
                difference("auc", "fields-bp", "fields-dfa") < 0.02,
                difference("auc", "fields-dfa", "fields-shallow") > 0.005,
            ),
        ),
        Claim(
            "networks of coordinates learn pictures with it", "Table 2",
            difference("psnr", "picture-dfa", "picture-shallow") > 1.0,
        ),
        Claim(
            "in transformers feedback per layer beats feedback inside layers", "Table 5",
            difference("loss", "text-micro", "text-macro") > 0.0,
        ),
        Claim(
            "transformers learn with it more than their last layer would", "section 4.4",
            difference("loss", "text-shallow", "text-macro") > 0.05,
        ),
        Claim(
            "transformers stay behind backpropagation", "Table 5: perplexity 52.0 and 29.8",
            difference("loss", "text-macro", "text-bp") > 0.0,
        ),
        Claim(
            "the signals point with the true error in every trained block", "section 2",
            all_of(value("alignment", "digits-dfa") > 0.1, value("alignment", "graph-dfa") > 0.1),
        ),
    ],
    figures=[
        Curve(
            "Digits: accuracy by step", arms=("digits-bp", "digits-dfa", "digits-fa", "digits-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Graph: accuracy by step", arms=("graph-bp", "graph-dfa", "graph-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Fields: area under the curve by step", arms=("fields-bp", "fields-dfa", "fields-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Picture: decibels by step", arms=("picture-bp", "picture-dfa", "picture-shallow"),
            x="step", y="score",
        ),
        Curve(
            "Text: held-out loss by step", arms=("text-bp", "text-macro", "text-micro", "text-shallow"),
            x="step", y="score",
        ),
        Curve(
            "The forward weights turn towards the feedback: cosine with the true error",
            arms=("digits-dfa", "graph-dfa", "picture-dfa"), x="step", y="cosine", series="block",
        ),
        Bars(
            "Digits: test accuracy", metric="accuracy",
            arms=("digits-bp", "digits-dfa", "digits-fa", "digits-shallow"),
        ),
        Heatmap(
            "The picture as each rule fits it", arms=("picture-bp", "picture-dfa", "picture-shallow"),
            x="column", y="row", value="fitted",
        ),
        Heatmap("The picture", arms=("picture-bp",), x="column", y="row", value="photograph"),
        Bars("Graph: test accuracy", metric="accuracy", arms=("graph-bp", "graph-dfa", "graph-shallow")),
        Bars("Fields: area under the curve", metric="auc"),
        Bars("Picture: decibels", metric="psnr"),
        Bars("Text: held-out loss", metric="loss"),
    ],
    seeds=(3, 4),
)  # fmt: skip
