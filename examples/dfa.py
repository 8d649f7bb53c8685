"""A fixed random projection of the output error trains the hidden blocks of very different networks.

Launay et al., 2020: Direct Feedback Alignment Scales to Modern Deep Learning Tasks and Architectures (arXiv
2006.12878).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load
from neurarium.learning import DirectFeedbackAlignment
from neurarium.models import CausalTransformer
from neurarium.probes import alignment
from neurarium.training import evaluate, fit

digits = load("digits").scaled().flat()
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
rule = DirectFeedbackAlignment(model, cross_entropy)
fit(rule, Batches(digits.train, 32, shuffle=True), torch.optim.Adam(rule.parameters(), 1e-3), epochs=5)
print(evaluate(model, Batches(digits.test, 256)))
print(alignment(rule, digits.test.x, digits.test.y).summary())

language_model = CausalTransformer(num_tokens=256, d_model=32, nhead=4, num_layers=3, block="post-norm")
rule = DirectFeedbackAlignment(
    language_model,
    lambda logits, y: cross_entropy(logits.flatten(0, 1), y.flatten()),
    blocks=["layers.0", "layers.1"],
    error_at="layers.2",
    batch_dims=(0, 1),
)
tokens = torch.randint(256, (4, 17))
rule.assign_credit(tokens[:, :-1], tokens[:, 1:])
