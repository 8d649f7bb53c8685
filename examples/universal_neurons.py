"""Which neurons of a small language model does a sibling of another seed have, too, and what do they mean?

python examples/universal_neurons.py --text mybook.txt --steps 2000 --width 128 --layers 4
"""

import argparse
import inspect
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import token_features
from neurarium.models import CausalTransformer
from neurarium.probes import excess_correlation, explain_neurons, intervene, neuron_roles

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--text", default="", help="a text file; by default the source of argparse")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--layers", type=int, default=1)
options = parser.parse_args()

content = Path(options.text).read_bytes() if options.text else inspect.getsource(argparse).encode()
rows = torch.tensor(list(content))[: len(content) // 64 * 64].view(-1, 64)
models = []
for seed in (0, 1):
    torch.manual_seed(seed)
    model = CausalTransformer(256, options.width, 4, options.layers, 4 * options.width, context=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(options.steps):
        batch = rows[torch.randint(len(rows), (32,))]
        optimizer.zero_grad()
        loss = cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    print(f"seed {seed}: loss {float(loss.detach()):.2f}")
    models.append(model)

batches = list(rows[:400].split(100))
found = excess_correlation(models[0], models[1], batches, exclude=[10])
print(found.summary())
vocabulary = [chr(i) if 32 <= i < 127 else "" for i in range(256)]
explained = explain_neurons(models[0], batches, token_features(vocabulary, common=[32, 101], context=64))
print(explained.summary())
for neuron in found.excess.argsort(descending=True)[:5].tolist():
    feature = explained.features[int(explained.best[neuron])]
    print(f"excess {float(found.excess[neuron]):.2f}: {feature} ({float(explained.reduction[neuron]):.0%})")
roles = neuron_roles(models[0])
print(roles.summary())
layer, place = divmod(int(roles.entropy_score.argmax()), 4 * options.width)
print(intervene(models[0], {f"layers.{layer}.linear2:input": [place]}, batches[:1], "scale", (0.0, 4.0)).summary())
