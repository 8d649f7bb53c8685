"""A dense Hebbian network finds hidden patterns in unlabelled examples; at high load that takes far more of them.

Agliari et al., 2023: Dense Hebbian neural networks: a replica symmetric picture of unsupervised learning (arXiv
2211.14067).
"""

import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory, discover_archetypes
from neurarium.theory import examples_needed, replica_symmetric

generator = torch.Generator().manual_seed(0)
hidden = diluted_patterns(5, 300, generator=generator)  # never shown
examples = noisy_examples(hidden, quality=0.4, count=60, generator=generator).flatten(0, 1)

memory = HebbianMemory(300, quality=0.4, num_patterns=5).learn(examples)  # no labels
found = discover_archetypes(memory, examples[::3], generator=generator)
print(len(found), "attractors;", int(found.found(hidden).sum()), "of 5 hidden patterns")

print(examples_needed(2, 0.1, 0.3, 0.9, training="unsupervised"), examples_needed(2, 0.1, 0.3, 0.9))  # 83 and 46
print(replica_symmetric(4, 0.005, 0.2, 0.7, 16, training="unsupervised", contact="distinct").m)
