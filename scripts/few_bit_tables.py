"""Compute the tables of `neurarium.layers.low_bit._few_bit` anew: python scripts/few_bit_tables.py"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from torch import nn

import neurarium.layers
from neurarium.layers import optimal_derivative
from neurarium.layers.low_bit._few_bit import STANDARD


def main() -> None:
    """Write one line per activation and number of bits."""
    rows = []
    for module in STANDARD:
        domain = (-7.0, 13.0) if isinstance(module, nn.ReLU6) else (-10.0, 10.0)
        for bits in range(1, 5):
            row = dataclasses.asdict(optimal_derivative(module, bits, domain=domain))
            row |= {key: [round(v, 7) for v in row[key]] for key in ("thresholds", "levels")}
            rows.append(f"{json.dumps(f'{module!r} {bits}')}: {json.dumps(row)}")
    target = Path(neurarium.layers.__path__[0]) / "few_bit_tables.json"
    target.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{len(rows)} tables in {target}")


if __name__ == "__main__":
    main()
