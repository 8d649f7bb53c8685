"""Stored trials as a table for other tools: Parquet, CSV, MLflow."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurarium.data._files import replacing
from neurarium.lab.errors import RequestError
from neurarium.lab.store import Row, Store
from neurarium.lab.study import closest


def _chosen(store: Store, study: str | None) -> Iterator[Row]:
    if study is None:
        yield from store.all()
        return
    closest(study, sorted({row.study for row in store.all()}) or ["(the store is empty)"], "study in the store")
    yield from store.study(study)


def table_rows(store: Store, study: str | None = None, curves: bool = False) -> Iterator[dict[str, Any]]:
    """One flat row per trial, or per recorded curve row; settings and metrics as columns of their own."""
    for row in _chosen(store, study):
        o = row.outcome
        identity = {"study": row.study, "arm": row.arm, "seed": row.seed, "scale": row.scale, "code": row.fingerprint}
        if curves:
            for point in o.curves:
                yield {**identity, **point}
            continue
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(o.finished))
        yield {
            **identity,
            "status": o.status,
            **{f"setting.{name}": _scalar(v) for name, v in row.settings.items()},
            **{f"metric.{name}": v for name, v in o.metrics.items()},
            "wall_seconds": o.wall,
            "cpu_seconds": o.cpu,
            "peak_memory": o.peak_memory,
            "finished": finished,
            "traceback": o.traceback,
            **{f"environment.{name}": v for name, v in o.environment.items()},
        }


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str, bool)) else str(value)


def export_table(store: Store, file: Path, *, study: str | None = None, curves: bool = False) -> int:
    """Write the table as Parquet or CSV, by the file's ending; returns the number of rows.

    Raises:
        RequestError: the ending is neither, the folder does not exist, or there is nothing to write.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    writers = {".parquet": pyarrow.parquet.write_table, ".csv": pyarrow.csv.write_csv}
    if file.suffix not in writers:
        raise RequestError(f"{file} must end in .parquet or .csv")
    if not file.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {file.absolute().parent}")
    rows = list(table_rows(store, study, curves))
    if not rows:
        raise RequestError("the store has nothing to export; run a study first, for example `neurarium run ewc`")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    with replacing(file) as partial:
        writers[file.suffix](pa.table(columns), partial)
    return len(rows)


def _column(values: list[Any]) -> list[Any]:
    """Values of one type: what is mixed (a setting that is text in one study and a number in another) becomes text."""
    kinds = {type(v) for v in values if v is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [None if v is None else str(v) for v in values]


def export_mlflow(store: Store, *, study: str | None = None) -> int:
    """Log every finished trial as an MLflow run in an experiment named after its study; returns how many are new.

    A trial that is there already (by its identity in the tag ``neurarium.key``) is not logged again. Signs that MLflow
    does not allow in names become underscores, and metrics that are not finite are left out.

    Raises:
        RequestError: MLflow is not installed, or refuses (no tracking server at ``MLFLOW_TRACKING_URI``, say).
    """
    try:
        import mlflow
    except ImportError:
        raise RequestError("MLflow is not installed: pip install 'neurarium[tracking]'") from None
    try:
        return _log(mlflow, store, study)
    except mlflow.exceptions.MlflowException as error:
        raise RequestError(f"MLflow: {str(error).splitlines()[0]}") from error


def _log(mlflow: Any, store: Store, study: str | None) -> int:
    there: dict[str, set[str]] = {}
    count = 0
    for row in _chosen(store, study):
        if row.study not in there:
            there[row.study] = _logged(mlflow, f"neurarium/{row.study}")
        if row.outcome.status != "done" or row.key in there[row.study]:
            continue
        mlflow.set_experiment(f"neurarium/{row.study}")
        with mlflow.start_run(run_name=f"{row.arm}-{row.seed}"):
            identity = {"neurarium.key": row.key, "arm": row.arm, "seed": row.seed, "scale": row.scale}
            mlflow.set_tags({**identity, "code": row.fingerprint, "device": row.device, "threads": row.threads})
            mlflow.log_params({allowed(name): _scalar(v) for name, v in row.settings.items()})
            metrics = {**row.outcome.metrics, "wall_seconds": row.outcome.wall}
            mlflow.log_metrics({allowed(name): v for name, v in metrics.items() if math.isfinite(v)})
        count += 1
    return count


def _logged(mlflow: Any, experiment: str) -> set[str]:
    """Identities of the trials that an experiment has."""
    client = mlflow.MlflowClient()
    known = client.get_experiment_by_name(experiment)
    found: set[str] = set()
    token = None
    while known is not None:
        page = client.search_runs([known.experiment_id], max_results=1000, page_token=token)
        found |= {run.data.tags.get("neurarium.key", "") for run in page}
        token = page.token
        if not token:
            break
    return found


def allowed(name: str) -> str:
    """A name as MLflow takes it: "top@5" is "top_5"."""
    return re.sub(r"[^\w\-. /]", "_", name)
