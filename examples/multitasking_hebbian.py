"""A Hopfield network whose patterns have blanks holds several at once, in ranks or in parallel, taught or not.

Agliari et al., 2023: Parallel Learning by Multitasking Neural Networks (arXiv 2308.04106).
"""

import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory, LabelledMemory
from neurarium.theory import critical_dilution, multitasking_overlaps

generator = torch.Generator().manual_seed(0)
traits = torch.randint(2, (3, 400), generator=generator) * 2.0 - 1
traits[torch.rand(3, 400, generator=generator) < 0.6] = 0  # six entries of ten are unknown
memory = LabelledMemory(400).store({"sweet": traits[0], "round": traits[1], "red": traits[2]})

probe = torch.zeros(400)
probe[:80] = (traits[0] + traits[2])[:80].sign()  # what is known of the thing at hand
found = memory.recall(probe)
assert {"sweet", "red"} <= set(found.active)
print(found.active, found.agreement)

patterns = diluted_patterns(3, 4000, dilution=0.3, sampling="columns", generator=generator)
examples = noisy_examples(patterns, quality=0.3, count=80, generator=generator)  # 65 % of the entries are right
memory = HebbianMemory(4000, quality=0.3, num_patterns=3).learn(examples)  # no labels
start = patterns[0] + (patterns[0] == 0) * torch.where(patterns[1] == 0, 1.0, patterns[1])
state = memory.relax(start, temperature=0.1, sweeps=20, generator=generator)
entropy = (1 - 0.3**2) / (80 * 0.3**2)
print(state @ patterns.T / 4000, multitasking_overlaps(3, 0.3, 0.1, entropy).patterns)
assert abs(critical_dilution(3) - 0.6180) < 1e-4  # the golden ratio
