"""How classifiers of sentences and what looks at them are used."""

from __future__ import annotations

import torch

from neurarium import layers, models, probes
from neurarium.testing.world import Example, ModuleExample

MODULES: dict[str, ModuleExample] = {
    "SentenceClassifier": lambda w: (
        models.SentenceClassifier(
            torch.randn(9, 6), layers.DenseRecurrent(6, 3, 2, 4), 3, dropout=0.0,
        ), (w.whole([1, 2, 0], [3, 4, 5]),),
    ),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "gradient_flow": lambda w: probes.gradient_flow(w.classifier(), w.batches()[0], outputs=["layers.0"]),
}
