"""The commands; each is thin and leaves the work to the lab."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from neurarium.cli import options
from neurarium.lab import registry
from neurarium.lab.archive import saved
from neurarium.lab.errors import RequestError, TrialFailed
from neurarium.lab.home import home
from neurarium.lab.results import overall

app = typer.Typer(
    name="neurarium",
    help="Published neural-network ideas as PyTorch components; each paper's claim re-tested by one command.",
    epilog="Start with: neurarium run ewc   ·   All state lives under $NEURARIUM_HOME.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_(
    words: options.Words = None,
    room: options.Room = None,
    verdict: options.WithVerdict = None,
    as_json: options.Json = False,
) -> None:
    """List the papers with their last verdicts.

    Example: neurarium list forgetting --room continual
    """
    from neurarium.cli.tables import console, print_rows
    from neurarium.lab.study import closest

    known = registry.entries()
    if room is not None:
        closest(room, {e.room for e in known.values()}, "room")
    if verdict is not None:
        closest(verdict, ("reproduced", "not reproduced", "undecided", "not run"), "verdict")
    results = saved()
    rows = []
    for slug, entry in known.items():
        paper = entry.paper()
        claims = results.get(slug, {}).get("claims", [])
        outcomes = {c["verdict"] or "not run" for c in claims} or {"not run"}
        text = f"{slug} {paper.title} {paper.authors}".lower()
        if room in (None, entry.room) and verdict in (None, *outcomes) and all(w.lower() in text for w in words or ()):
            rows.append(
                {
                    "slug": slug, "title": paper.title, "room": entry.room, "year": paper.year, "arxiv": paper.arxiv,
                    "verdict": overall(claims) or "not run",
                }
            )  # fmt: skip
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    elif not rows:
        print("no study matches; `neurarium list` shows all")
    else:
        print_rows(console(), rows, ("slug", "title", "room", "year", "verdict"))


@app.command()
def show(
    study: options.StudyName,
    as_json: options.Json = False,
) -> None:
    """Show a study: what it tests, where the code is, its claims, arms, settings, last verdict.

    Example: neurarium show ewc
    """
    from neurarium.cli.show import description, print_description
    from neurarium.cli.tables import console

    content = description(registry.find(study))
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        print_description(console(), content)


@app.command()
def run(
    studies: options.StudyNames = None,
    all_: options.Everything = False,
    stale: options.Stale = False,
    scale: options.ScaleName = "small",
    seeds: options.Seeds = None,
    arm: options.Arms = None,
    set_: options.Set = None,
    jobs: options.Jobs = None,
    ray: options.RayAddress = None,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    fresh: options.Fresh = False,
    save: options.Save = False,
    save_to: options.SaveTo = None,
    keep: options.Keep = None,
    as_json: options.Json = False,
) -> None:
    """Run studies and judge their papers' claims.

    What the store has already is not run again; an interrupted run goes on where it was. Each claim's verdict comes
    from a 95 % interval over paired seeds. Exit code: 0 done, 1 a trial failed, 2 the request was wrong.

    Examples: neurarium run ewc · neurarium run ewc --scale smoke · neurarium run --all --save ·
    neurarium run --stale --save · neurarium run ewc --set strength=100 --arm ewc ·
    neurarium run my_study.py --ray local
    """
    from neurarium.cli.running import run_studies, saver, stale_entries
    from neurarium.lab.runner import Request

    if bool(studies) + all_ + stale != 1:
        raise RequestError("name the studies to run (see `neurarium list`), or give --all or --stale")
    if (save or save_to) and (set_ or arm or scale == "smoke"):
        raise RequestError("--save keeps results of whole studies: leave out --set, --arm and --scale smoke")
    keeper = saver(save, save_to)
    if stale:
        entries = stale_entries()
    else:
        entries = list(registry.entries().values()) if all_ else [registry.find(name) for name in studies or ()]
    arms = tuple(name for words in arm or () for name in words.split(","))
    request = Request(scale, seeds, arms, parse_settings(set_ or []), fresh, device, threads, keep)
    findings = run_studies(entries, request, jobs, ray, quiet=as_json, keep=keeper)
    if as_json:
        from neurarium.lab.archive import summary

        content = [summary(finding) for finding in findings]
        print(json.dumps(content[0] if studies and len(content) == 1 else content, ensure_ascii=False, allow_nan=False))
    raise_failures(findings)


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """``["a=1", "b=2"]`` as a dictionary."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise RequestError(f"--set takes NAME=VALUE, not {pair!r}")
        found[name.strip()] = value.strip()
    return found


def raise_failures(findings: list[Any]) -> None:
    """Say which trials failed, the last line of each traceback with it."""
    failed = [(finding.entry.slug, *failure) for finding in findings for failure in finding.failed]
    if failed:
        lines = [
            f"  {slug} · {arm} · seed {seed}: {outcome.traceback.strip().splitlines()[-1]}"
            for slug, arm, seed, outcome in failed
        ]
        raise TrialFailed(f"{len(failed)} trial(s) failed (tracebacks: `neurarium export`):\n" + "\n".join(lines))


@app.command()
def report(
    folder: options.SiteFolder = None,
    as_json: options.Json = False,
) -> None:
    """Write the static site: papers with verdicts, curves and cost, guides, comparison, reference. Open index.html."""
    from neurarium.lab.engine import store_path
    from neurarium.lab.pages import write_whole_site

    index = write_whole_site(store_path(), folder or home() / "report")
    print(json.dumps({"index": str(index)}) if as_json else f"report: {index}")


@app.command()
def export(
    file: options.TableFile,
    study: options.OnlyStudy = None,
    curves: options.WithCurves = False,
    to_mlflow: options.ToMlflow = False,
) -> None:
    """Write the stored trials as a table: settings, seed, metrics, seconds, memory, versions, traceback.

    Example: neurarium export trials.parquet --study ewc
    """
    from neurarium.lab.engine import store_path
    from neurarium.lab.export import export_mlflow, export_table
    from neurarium.lab.store import Store

    store = Store(store_path())
    count = export_table(store, file, study=study, curves=curves)
    print(f"{count} rows in {file}")
    if to_mlflow:
        print(f"{export_mlflow(store, study=study)} runs logged in MLflow")


@app.command()
def compare(
    data: options.Data = "",
    target: options.Target = "",
    model: options.Model = "mlp",
    ideas: options.Ideas = "all",
    rules: options.Rules = None,
    compressors: options.Compressors = "",
    stream: options.Stream = None,
    strategies: options.Strategies = "all",
    tune: options.Tune = None,
    budget: options.TimeBudget = None,
    tasks: options.Tasks = 5,
    strength: options.Strength = 0.0,
    examples: options.Examples = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = 0.0,
    drop: options.Drop = None,
    keep: options.KeepColumn = None,
    missing: options.Missing = "impute",
    seeds: options.Seeds = 3,
    jobs: options.Jobs = None,
    ray: options.RayAddress = None,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    fresh: options.Fresh = False,
    site: options.CompareSite = None,
    as_json: options.Json = False,
) -> None:
    """Compare ideas on your own data and model: every one that fits, beside what you would use without them.

    Accuracy (or R2) on test examples with its interval over seeds, log-loss, calibration error, and what training and
    predicting cost. --tune chooses every idea's knobs on validation examples; --budget drops ideas in rounds. With
    --stream the data become a stream of tasks, and strategies against forgetting are compared. The model is a function
    or class of yours; one with parameters is called with (in_features, out_features).

    Examples: neurarium compare --data mine.csv --target y ·
    neurarium compare --data mine.csv --target y --model mypkg.nets:build --ideas backprop,dfa,trees --tune 16 ·
    neurarium compare --data mine.csv --target y --budget 10m ·
    neurarium compare --stream split-mnist --strategies all
    """
    from neurarium.lab.engine import check_device

    check_device(device)
    data, stream = data_and_stream(data, stream)
    numbers = {"examples": examples, "epochs": epochs, "batch-size": batch_size, "tasks": tasks, "steps": steps}
    for name, number in {**numbers, "tune": tune}.items():
        if number is not None and number < 1:
            raise RequestError(f"--{name} must be at least 1, not {number}")
    for name, amount in (("learning-rate", learning_rate), ("strength", strength)):
        if not 0 <= amount < float("inf"):
            raise RequestError(f"--{name} must be a positive number, not {amount}")
    if missing not in ("impute", "refuse"):
        raise RequestError(f"--missing must be impute or refuse, not {missing!r}")
    if compressors and stream is not None:
        raise RequestError("--stream and --compressors exclude each other")
    columns: dict[str, Any] = {"drop": tuple(drop or ()), "keep": tuple(keep or ()), "missing": missing}
    where: dict[str, Any] = {"jobs": jobs, "ray": ray}
    if stream is not None:
        from neurarium.cli.running import run_one, show_finding
        from neurarium.lab.runner import Request
        from neurarium.studies import streams

        if tune or budget:
            raise RequestError("--tune and --budget are for ideas; a stream's strategies run at their defaults")
        settings = streams.Settings(
            data, target, model, **columns, batch_size=batch_size or 64, examples=examples or 0, stream=stream,
            tasks=tasks, strength=strength, epochs=epochs or 2, learning_rate=learning_rate or 0.01,
        )  # fmt: skip
        job, left_out = streams.job(settings, names(strategies))
        for slug, reason in left_out.items():
            print(f"left out {slug}: {reason}", file=sys.stderr)
        request = Request("small", seeds, fresh=fresh, device=device, threads=threads)
        finding = run_one(job, request, **where, quiet=as_json)
        show_finding(finding, as_json, site)
    else:
        from neurarium.cli.comparing import compare_ideas, seconds_in, show_comparison

        chosen, kind = ideas, "idea"
        if rules is not None:
            chosen, kind = rules, "rule"
        if compressors:
            chosen, kind = compressors, "compressor"
        found = compare_ideas(
            quiet=as_json, data=data, target=target, model=model, ideas=names(chosen), kind=kind, tune=tune or 0,
            budget=seconds_in(budget) if budget else 0.0, seeds=seeds, steps=steps or 0, epochs=epochs or 0,
            batch_size=batch_size or 0, examples=examples or 0, device=device, threads=threads, fresh=fresh,
            knobs={"learning_rate": learning_rate} if learning_rate else {}, **columns, **where,
        )  # fmt: skip
        finding = found.finding
        show_comparison(found, as_json, site)
    raise_failures([finding])


@app.command()
def ideas(as_json: options.Json = False) -> None:
    """List the ideas that `neurarium compare` can apply to your data, with what each does and the paper behind it."""
    from neurarium.cli.tables import console, print_rows
    from neurarium.recipes import catalogue

    rows = [
        {"idea": slug, "acts on": recipe.traits.role, "what it does": recipe.about(), "paper": recipe.paper}
        for slug, recipe in catalogue().items()
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print_rows(console(), rows, rows[0])


@app.command()
def probe(
    name: options.ProbeName = None,
    model: options.Model = "mlp",
    weights: options.ProbeWeights = None,
    other: options.OtherWeights = None,
    data: options.ProbeData = "",
    target: options.Target = "",
    examples: options.ProbeExamples = None,
    set_: options.ProbeSet = None,
    figure: options.FigureFile = None,
    device: options.Device = "cpu",
    as_json: options.Json = False,
) -> None:
    """Look inside a network of yours with a published measurement; without a name, list those that fit it.

    The model is left as it was. Text goes to standard output, a picture to --figure, everything to --json.

    Examples: neurarium probe · neurarium probe --model mypkg.nets:build --data mine.npz ·
    neurarium probe unit-correlations --model mypkg.nets:build --weights a.pt --other b.pt --data mine.npz
    --set control=rotation --figure units.png
    """
    from neurarium.cli.probing import bring, listing, probe_model, settings_of
    from neurarium.cli.tables import console, print_rows

    if not data and name is not None:
        raise RequestError("name the data: --data mnist-small, --data mine.npz ...")
    subject = bring(data, target, model, weights, other, examples, device) if data else None
    if name is not None and subject is not None:
        content = probe_model(name, subject, settings_of(set_), figure)
        print(json.dumps(content) if as_json else content["summary"])
        if figure is not None and not as_json:
            print(f"written: {figure}")
        return
    rows = listing(subject)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print_rows(console(), rows, rows[0])


@app.command()
def compress(
    data: options.Data,
    weights: options.Weights = None,
    out: options.SmallFile = None,
    method: options.Method = "teacher-class",
    target: options.Target = "",
    model: options.Model = "mlp",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    as_json: options.Json = False,
) -> None:
    """Make a trained model smaller and write it so that plain PyTorch loads it.

    The file is a torch.export program with a free batch size: torch.export.load(FILE).module() runs it without this
    library. Without weights the model is trained on the data first.

    Examples: neurarium compress model.pt --data mine.csv --target y --model mypkg.nets:build --method teacher-class ·
    neurarium compress --data mnist-small --out small.pt2
    """
    from neurarium.cli.compressing import compress_file

    file = out or Path(f"{weights.stem}-small.pt2" if weights else "small.pt2")
    content = compress_file(file, data, method, target, model, weights, epochs, batch_size or 64)
    if as_json:
        print(json.dumps(content))
        return
    for when in ("before", "after"):
        found = content[when]
        print(
            f"{when:<7}accuracy {found['accuracy']:.4f}   {found['nonzero']:,.0f} weights that are not zero   "
            f"{found['bytes']:,.0f} bytes   {found['flops']:,.0f} FLOPs   {found['prediction_ms']:.3f} ms"
        )
    print(f"written: {file}")


@app.command()
def generate(
    text: options.Corpus = None,
    model: options.TextModel = "transformer",
    prompt: options.Prompt = "the ",
    count: options.Count = 200,
    steps: options.TextSteps = 300,
    symbols: options.Symbols = 64,
    weights: options.TextWeights = None,
    out: options.TextFile = None,
    seed: options.Seed = 0,
) -> None:
    """Train a small language model of characters on a text, and let it go on from a beginning.

    Examples: neurarium generate mine.txt --model tlinformer --prompt "Once " --out mine.pt ·
    neurarium generate --weights mine.pt --prompt "Twice " --count 500
    """
    from neurarium.cli import generating

    if (text is None) == (weights is None):
        raise RequestError("name a text to train on, or --weights of a model that --out wrote")
    if count < 0:
        raise RequestError(f"--count must not be negative, not {count}")
    trained = generating.load(weights) if weights else generating.train_text(text or "", model, steps, symbols, seed)
    if out is not None:
        generating.save(trained, out)
    print(generating.generate_text(trained, prompt, count, seed))


def data_and_stream(data: str, stream: str | None) -> tuple[str, str | None]:
    """What ``--data`` and ``--stream`` ask for; ``split-mnist`` is the stream ``split`` of the data ``mnist``."""
    kind, dash, named = (stream or "").partition("-")
    if dash and data and named != data:
        raise RequestError(f"--stream {stream} names its data already: leave out --data {data}")
    if not (data or named):
        raise RequestError("name the data: --data mnist, --data mine.csv ..., or --stream split-mnist")
    return (named or data), (kind if dash else stream)


def names(words: str) -> list[str]:
    """``"a,b"`` as a list."""
    return [name for name in words.split(",") if name]


@app.command()
def data(
    action: options.DataAction = "list",
    name: options.DataName = None,
    target: options.Target = "",
    drop: options.DropColumns = "",
    keep: options.KeepColumns = "",
    missing: options.MissingValues = "impute",
    as_json: options.Json = False,
) -> None:
    """List the data sets, show one or a file of your own, or fetch one into the cache.

    Of a table of yours it says, a line for each column, what it would be turned into.

    Examples: neurarium data · neurarium data show cifar10 · neurarium data fetch mnist ·
    neurarium data show mine.csv --target y --drop name,phone
    """
    from neurarium import data as room
    from neurarium.cli.tables import console, print_rows
    from neurarium.lab.study import closest

    closest(action, ("list", "show", "fetch"), "action")
    if action == "list":
        rows = room.catalogue()
        if as_json:
            print(json.dumps(rows, ensure_ascii=False))
        else:
            print_rows(console(), rows, rows[0])
        return
    if name is None:
        raise RequestError(f"name a data set: neurarium data {action} NAME (see `neurarium data`)")
    if action == "show" and name not in [row["name"] for row in room.catalogue()] and Path(name).expanduser().exists():
        from neurarium.cli.show import own_data

        content = own_data(name, target, names(drop), names(keep), missing)
    else:
        content = room.describe(name) if action == "show" else {"name": name, "path": str(room.fetch(name))}
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        width = max(12, *map(len, content))
        for key, value in content.items():
            print(f"{key:<{width}} {value}")
