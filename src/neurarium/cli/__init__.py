"""The command line: ``neurarium list | show | run | compare | report | export | data``."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Entry point.

    Exit codes: 0 done, 1 a trial failed, 2 the request was wrong, 3 a study is at fault, 130 interrupted.
    """
    # One thread per process unless the user says otherwise: trials run side by side, and threads that spin for each
    # other make all of them crawl. It has to be said before torch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # so that mypkg.nets:build means the package in the current folder
    from neurarium.cli.app import app
    from neurarium.data._errors import DataError
    from neurarium.lab.errors import RequestError, StudyError, TrialFailed

    try:
        app()
    except TrialFailed as failure:
        print(f"neurarium: {failure}", file=sys.stderr)
        sys.exit(1)
    except StudyError as fault:
        print(f"neurarium: {fault}", file=sys.stderr)
        sys.exit(3)
    except (RequestError, DataError) as error:
        print(f"neurarium: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as left:
        if left.code == 130:  # Ctrl-C, as typer reports it
            print("neurarium: interrupted; what was finished is kept", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
