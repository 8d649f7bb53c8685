"""At test time, a first layer that learns from its inputs and a modulator behind it lower the error under corruption.

Tang et al., 2023: Neuro-Modulated Hebbian Learning for Fully Test-Time Adaptation (arXiv 2303.00914).
"""

import torch
from torch import nn

from neurarium.data import corrupt, load
from neurarium.learning import (
    BatchNormAdapt,
    NeuroModulatedHebbian,
    SoftHebbian,
    TestTimeAdaptation,
)

torch.manual_seed(0)
split = load("mnist-small")
foggy = corrupt(split.test.x[:1000], "fog", severity=3, generator=torch.Generator().manual_seed(0))
mean, deviation = split.train.x.float().mean(), split.train.x.float().std()
x, y = ((split.train.x[:3000] - mean) / deviation)[:, None], split.train.y[:3000]
stream, truth = ((foggy - mean) / deviation)[:, None], split.test.y[:1000]

model = nn.Sequential(nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for i in range(0, 3000, 50):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[i : i + 50]), y[i : i + 50]).backward()
    optimizer.step()
model.eval()


def error(adapter):
    logits = torch.cat([adapter.adapt(batch) for batch in stream.split(100)])
    adapter.restore()  # the source model again, bit for bit
    return float((logits.argmax(1) != truth).float().mean())


print(error(TestTimeAdaptation(model)))  # no adaptation
print(error(BatchNormAdapt(model)))
print(error(NeuroModulatedHebbian(model, rate=0.3, lr=0.03)))

features = nn.Conv2d(1, 32, 5)
rule = SoftHebbian(features, norm="plain")
optimizer = torch.optim.SGD([features.weight], lr=0.1)
for batch in x[:1000].split(100):  # no labels, no loss
    optimizer.zero_grad()
    rule.assign_credit(batch)
    optimizer.step()
