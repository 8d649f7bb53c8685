"""A dense Hebbian network holds K ~ N^(P-1) patterns, or few under enormous synaptic noise, and theory says which.

Agliari et al., 2022: Dense Hebbian neural networks: a replica symmetric picture of supervised learning (arXiv
2212.00606).
"""

import torch

from neurarium.data import diluted_patterns, noisy_examples
from neurarium.learning import HebbianMemory, NoisySynapses, plefka
from neurarium.theory import critical_load, replica_symmetric

generator = torch.Generator().manual_seed(0)
patterns = diluted_patterns(2000, 100, generator=generator)  # twenty patterns a neuron
examples = noisy_examples(patterns, quality=0.7, count=20, generator=generator)
labels = torch.arange(2000).unsqueeze(1).expand(2000, 20)
memory = HebbianMemory(100, order=4, quality=0.7).learn(examples, labels)  # running means: any order, any cuts

damaged = patterns[:8] * (torch.rand(8, 100, generator=generator) > 0.05).float().mul(2).sub(1)
restored = memory.relax(damaged, temperature=0.1, generator=generator)
print((restored * patterns[:8]).mean(), replica_symmetric(4, 0.002, 0.1, 0.7, 20).m, critical_load(4))
print(plefka(memory, patterns[0], temperature=0.25) @ patterns[0] / 100)  # means without sampling

small = HebbianMemory(40, order=4).store(diluted_patterns(3, 40, generator=generator))
start = small.effective_rows()
print((NoisySynapses(small, 30.0, generator).relax(start) * start).mean())  # 30 times a synapse's signal
