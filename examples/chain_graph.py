"""Read a network as a chain graph: how wrong its forward pass is as inference, and what does better."""

import torch
from torch import nn

from neurarium.theory import ChainGraph, feedforward_gap

generator = torch.Generator().manual_seed(0)
model = nn.Sequential(nn.Linear(8, 10), nn.Sigmoid(), nn.Linear(10, 10), nn.Sigmoid(), nn.Linear(10, 3))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(0.0, 2 / parameter.shape[-1] ** 0.5, generator=generator)

graph = ChainGraph(model, output="categorical")
print(graph.summary())
x = torch.randn(5, 8, generator=generator)
with torch.no_grad():
    exact = graph.infer(x, "exact")  # all 2^10 states of each hidden layer
    for name, options in {
        "feedforward": {},
        "16 samples": {"method": "sampled"},
        "16 samples, second layer collapsed": {"method": "collapsed", "sampled": ["1"]},
        "both collapsed": {"method": "collapsed", "sampled": []},
    }.items():
        guess = graph.infer(x, samples=16, generator=generator, **options)
        print(f"{name}: total variation {float((guess - exact).abs().sum(1).mean()) / 2:.4f}")
print(feedforward_gap(graph, x, samples=500, generator=generator).summary())
