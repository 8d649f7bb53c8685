"""Where state lives: ``$NEURARIUM_HOME``, or the platform's own folders."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder of the store, the artifacts and the report."""
    named = os.environ.get("NEURARIUM_HOME")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("neurarium"))
