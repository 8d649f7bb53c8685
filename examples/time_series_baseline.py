"""Plain convolutions over time are a strong baseline, and a map shows which steps decided.

Wang, Yan, Oates, 2016: Time Series Classification from Scratch with Deep Neural Networks (arXiv 1611.06455).
"""

import numpy as np
import torch

from neurarium.models import TimeSeriesClassifier
from neurarium.probes import class_activation, window_deletion

# Two kinds of heartbeat-like bumps, at any place of noisy series of unequal length.
rng = np.random.default_rng(0)
y, lengths = rng.integers(0, 2, 120), rng.integers(40, 61, 120)
x = 0.5 * rng.standard_normal((120, 1, 60))
starts = [int(rng.integers(0, length - 10)) for length in lengths]
for series, label, start in zip(x[:, 0], y, starts):
    series[start : start + 10] += np.sin(np.linspace(0, np.pi, 10)) * (3 if label else -3)

model = TimeSeriesClassifier("fcn", epochs=20, random_state=0).fit(x[:80], y[:80], lengths[:80])
print(f"accuracy {(model.predict(x[80:], lengths[80:]) == y[80:]).mean():.2f}")

# Where it looked: the map is highest on the bump.
series = torch.tensor(x[80:], dtype=torch.float32)
maps = class_activation(model.network_, (series, torch.tensor(lengths[80:])))
strongest = maps.of().argmax(1)
hit = [start <= step < start + 10 for start, step in zip(starts[80:], strongest.tolist())]
print(f"the strongest step lies on the bump in {np.mean(hit):.0%} of the series")
print(window_deletion(model.network_, series, torch.tensor(y[80:])).summary())
