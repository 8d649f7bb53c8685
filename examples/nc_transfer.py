"""How well do the features of a trained network serve classes that it never saw?"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches, load, split_classes
from neurarium.learning import Backprop
from neurarium.probes import class_distance_normalized_variance, few_shot_accuracy
from neurarium.training import fit

data = load("mnist-small").scaled().flat()
new, source = split_classes(data.train, 4, 6, generator=torch.Generator().manual_seed(0))
labels = torch.searchsorted(source.y.unique(), source.y)  # 0 to 5, as cross-entropy wants them

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 6))
unseen = Batches(new, 500)
for stage in ("untrained", "trained"):
    if stage == "trained":
        loader = Batches(Arrays(source.x, labels), 100, shuffle=True)
        fit(Backprop(model, cross_entropy), loader, torch.optim.Adam(model.parameters(), lr=1e-3), epochs=4)
    generator = torch.Generator().manual_seed(1)
    print(stage, "on new classes:", class_distance_normalized_variance(model, unseen).summary())
    print("  ", few_shot_accuracy(model, unseen, ways=4, shots=5, generator=generator).summary())
