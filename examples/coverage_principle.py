"""Which new combinations can be answered from these examples at all? Ask before you blame the model.

Chang et al., 2025: The Coverage Principle (arXiv 2505.20278).
"""

import torch

from neurarium.data import two_hop
from neurarium.probes import coverage, required_data

generator = torch.Generator().manual_seed(0)
task = two_hop(12, generator)  # f2(f1(x1, x2), x3) over twelve tokens
split = task.sample(250, generator, tests=200)
new = split.tests["all seen"]  # known parts, newly combined

found = coverage(split.train.x, split.train.y, new.x, new.y)
print(found.summary())
best = int(found.levels.argmax())
for swap in found.explain(best):
    print(f"  {swap.before} -> {swap.after}: alike at positions {swap.positions}")
print("training items that cover half with two contexts each:", required_data(task, 2, tests=100, generator=generator))
