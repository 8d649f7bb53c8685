"""Options and arguments that the commands share, with the words of their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Jobs = Annotated[int | None, typer.Option(help="Trials at a time (default: one per core); 0: in this process.")]
RayAddress = Annotated[str | None, typer.Option("--ray", help="Run on Ray: 'local', 'auto', or a cluster's address.")]
Device = Annotated[str, typer.Option(help="Torch device of every trial: cpu, cuda, cuda:1 ...")]
Threads = Annotated[int, typer.Option(help="Torch threads of each trial; they change the last bits of results.")]
Seeds = Annotated[int | None, typer.Option(help="A fixed number of seeds (default: more while a claim is undecided).")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run again what the store has.")]
Words = Annotated[list[str] | None, typer.Argument(help="Show studies whose slug, title or authors have these words.")]
Room = Annotated[str | None, typer.Option(help="Only this room (continual, learning, layers ...).")]
WithVerdict = Annotated[str | None, typer.Option(help="Only with such a claim: reproduced, 'not reproduced' ...")]
StudyName = Annotated[str, typer.Argument(help="A slug (see `neurarium list`) or the path of a study file.")]
StudyNames = Annotated[list[str] | None, typer.Argument(help="Slugs (see `neurarium list`) or paths of study files.")]
Everything = Annotated[bool, typer.Option("--all", help="Run every study of the house.")]
ScaleName = Annotated[str, typer.Option(help="smoke (seconds, no verdict), small (a real test) or paper.")]
Arms = Annotated[list[str] | None, typer.Option(help="Only these arms: names with commas between them, or repeated.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting in every arm.")]
Stale = Annotated[bool, typer.Option("--stale", help="Run the studies whose saved result is of earlier code.")]
Save = Annotated[bool, typer.Option("--save", help="In a checkout: write results/<slug>.json and the tables of it.")]
SaveTo = Annotated[Path | None, typer.Option(help="Write each study's result, curves with it, into this folder.")]
Keep = Annotated[Path | None, typer.Option(help="Keep the trials' files in this folder.")]
SiteFolder = Annotated[Path | None, typer.Argument(help="Where to write it (default: $NEURARIUM_HOME/report).")]
TableFile = Annotated[Path, typer.Argument(help="trials.parquet or trials.csv.")]
OnlyStudy = Annotated[str | None, typer.Option(help="Only this study.")]
WithCurves = Annotated[bool, typer.Option("--curves", help="The recorded rows instead of the final metrics.")]
ToMlflow = Annotated[bool, typer.Option("--mlflow", help="Log every trial as an MLflow run too.")]
Data = Annotated[
    str, typer.Option(help="A data set's name (see `neurarium data`) or your CSV, Parquet, NPZ, folder ...")
]
Target = Annotated[str, typer.Option(help="Target column of your table.")]
Model = Annotated[str, typer.Option(help="'mlp', or package.module:name of your function or class.")]
Ideas = Annotated[
    str,
    typer.Option(
        help="Comma-separated ideas (see `neurarium ideas`; package.module:name is yours), or 'all' that fit."
    ),
]
Tune = Annotated[
    int | None, typer.Option(help="Draws of every idea's knobs, chosen on validation examples; both are shown.")
]
TimeBudget = Annotated[
    str | None, typer.Option("--budget", help="About so long in all (10m, 1h): ideas are dropped in rounds.")
]
Drop = Annotated[list[str] | None, typer.Option(help="Leave this column of your table out (may be repeated).")]
KeepColumn = Annotated[
    list[str] | None, typer.Option("--keep", help="Take this column although it would be left out (may be repeated).")
]
Missing = Annotated[str, typer.Option(help="Gaps in a table: impute, or refuse.")]
Rules = Annotated[str | None, typer.Option(help="Compare learning rules only: names, or 'all'.")]
Stream = Annotated[
    str | None,
    typer.Option(help="Compare strategies on a stream: split, permuted or rotated; 'split-mnist' names the data too."),
]
Strategies = Annotated[str, typer.Option(help="Comma-separated strategies ('joint' is the reference), or 'all'.")]
Compressors = Annotated[str, typer.Option(help="Compare what ends in a smaller network only: names, or 'all'.")]
Method = Annotated[str, typer.Option(help="A compressor (teacher-class, iterative-magnitude-pruning ...).")]
Weights = Annotated[Path | None, typer.Argument(help="Your model's state_dict (.pt); without it the model is trained.")]
SmallFile = Annotated[Path | None, typer.Option("--out", help="The small model (default: <weights>-small.pt2).")]
Tasks = Annotated[int, typer.Option(help="Tasks of the stream.")]
Strength = Annotated[float, typer.Option(help="Strength of the strategies that have one (default: each one's own).")]
Epochs = Annotated[
    int | None,
    typer.Option(help="Passes over the examples instead of --steps; on a stream, per task (default 2)."),
]
Examples = Annotated[
    int | None, typer.Option(help="Train on so many examples only, and test on at most as many (default: all).")
]
Steps = Annotated[
    int | None,
    typer.Option(help="Optimizer steps at most (default: 30 passes, 1,000 to 4,000 steps), ended by validation."),
]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step (default: 16 to 128, by the size of the data).")]
LearningRate = Annotated[float, typer.Option(help="One learning rate for all (default: each idea's own; SGD at 0.01).")]
CompareSite = Annotated[Path | None, typer.Option("--report", help="Write a page with the curves into this folder.")]
DataAction = Annotated[str, typer.Argument(help="list, show or fetch.")]
DataName = Annotated[str | None, typer.Argument(help="A data set's name, or for show a file or folder.")]
DropColumns = Annotated[str, typer.Option("--drop", help="Columns of your table to leave out, comma-separated.")]
KeepColumns = Annotated[
    str, typer.Option("--keep", help="Columns of your table to use though they look like an index or identifiers.")
]
MissingValues = Annotated[
    str, typer.Option("--missing", help="impute: fill gaps and mark them; refuse: name the first.")
]
ProbeName = Annotated[str | None, typer.Argument(help="A probe; without it, all are listed, and which fit.")]
ProbeData = Annotated[
    str, typer.Option("--data", help="A data set's name or your file; its test examples are looked at.")
]
ProbeWeights = Annotated[Path | None, typer.Option("--weights", help="Your model's state_dict (.pt).")]
OtherWeights = Annotated[Path | None, typer.Option("--other", help="Another state_dict, for probes that compare two.")]
ProbeExamples = Annotated[int | None, typer.Option("--examples", help="Look at so many examples only (default: all).")]
ProbeSet = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An argument of the probe.")]
FigureFile = Annotated[Path | None, typer.Option("--figure", help="Write the picture here (.png, .svg, .pdf).")]
Corpus = Annotated[
    str | None, typer.Argument(help="A text file, or a corpus: fortunes-en, fortunes-de, manpages-en, docstrings ...")
]
TextModel = Annotated[str, typer.Option("--model", help="transformer, tlinformer or brillm.")]
Prompt = Annotated[str, typer.Option(help="What the text begins with.")]
Count = Annotated[int, typer.Option(help="Characters to add.")]
TextSteps = Annotated[int, typer.Option("--steps", help="Steps of training.")]
Symbols = Annotated[int, typer.Option(help="Characters of the text that are kept, the commonest.")]
Seed = Annotated[int, typer.Option(help="Of training and of the draws.")]
TextWeights = Annotated[Path | None, typer.Option("--weights", help="A model that --out wrote, instead of a text.")]
TextFile = Annotated[Path | None, typer.Option("--out", help="Keep the trained model in this file.")]
