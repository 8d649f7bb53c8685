"""Accuracy of TimeSeriesClassifier on the sets that aeon carries, beside published ones of the three networks.

``python benchmarks/time_series.py [SET ...] [--width 1.0 --epochs 2000]``. Published: the release's table of the paper
(one run), and the independent re-run of Fawaz et al. (2019, mean of five). Ours is a quarter as wide and has a hundred
epochs unless told otherwise. Seconds are those of one process on one core.
"""

import argparse
import time

import torch

from neurarium.data import load_time_series
from neurarium.models import TimeSeriesClassifier

NETWORKS = ("mlp", "fcn", "resnet")
PUBLISHED = {  # accuracy in percent: (paper's release, re-run); nan where a table has none
    "gunpoint": ((93.3, 100.0, 99.3), (92.8, 100.0, 99.1)),
    "italy-power-demand": ((96.6, 97.0, 96.0), (95.3, 96.3, 96.2)),
    "arrowhead": ((82.3, 88.0, 81.7), (78.4, 84.3, 83.8)),
    "trace": ((82.0, 100.0, 100.0), (80.6, 100.0, 100.0)),
    "osuleaf": ((57.0, 98.8, 97.9), (56.0, 97.9, 98.0)),
    "acsf1": ((float("nan"),) * 3, (55.8, 89.8, 91.6)),
    "japanese-vowels": ((float("nan"),) * 3, (97.6, 99.3, 99.2)),
    "basic-motions": ((float("nan"),) * 3, (float("nan"),) * 3),
}
DEFAULT = ("gunpoint", "italy-power-demand", "arrowhead", "trace")


def main() -> None:
    """Fit every network to every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=DEFAULT)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets:
        split = load_time_series(name)
        ragged = bool((split.lengths["train"] != split.train.x.shape[2]).any())
        parts = {part: split.lengths[part].numpy() if ragged else None for part in ("train", "test")}
        paper, again = PUBLISHED.get(name, ((float("nan"),) * 3,) * 2)
        for index, network in enumerate(NETWORKS):
            model = TimeSeriesClassifier(network, options.width, options.epochs, random_state=0)
            start = time.process_time()
            model.fit(split.train.x.numpy(), split.train.y.numpy(), parts["train"])
            seconds = time.process_time() - start
            right = model.predict(split.test.x.numpy(), parts["test"]) == split.test.y.numpy()
            print(
                f"{name:20} {network:7} {100 * right.mean():5.1f} %   paper {paper[index]:5.1f}   "
                f"re-run {again[index]:5.1f}   fit {seconds:5.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
