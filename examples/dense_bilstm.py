"""Deep and narrow against wide and shallow, of equal size, on made-up sentences: accuracy, and gradients by layer."""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.layers import DenseRecurrent
from neurarium.learning import Backprop
from neurarium.models import SentenceClassifier
from neurarium.probes import gradient_flow
from neurarium.training import evaluate, fit

draw = torch.Generator().manual_seed(0)
ids = torch.randint(3, 40, (600, 10), generator=draw)  # sentences of ten words; 0 is padding, 1 an unknown word
ids[torch.arange(10) >= torch.randint(4, 11, (600, 1), generator=draw)] = 0  # of four to ten words
labels = (ids == 5).any(1).long() + (ids == 7).any(1).long()  # how many of two words are there
train, test = Arrays(ids[:500], labels[:500]), Arrays(ids[500:], labels[500:])
vectors = torch.randn(40, 30, generator=draw)

budget = sum(p.numel() for p in DenseRecurrent(30, 1, 0, top_size=20).parameters())  # one layer of 20 units
size = DenseRecurrent.budget(30, budget, num_layers=4, top_size=8)
networks = {
    "one layer of 20": lambda: DenseRecurrent(30, 1, 0, top_size=20),
    f"four dense layers of {size}": lambda: DenseRecurrent(30, size, 4, top_size=8),
    "four stacked layers": lambda: DenseRecurrent(
        30, DenseRecurrent.budget(30, budget, 4, 8, connection="stacked"), 4, top_size=8, connection="stacked"
    ),
}
for name, encoder in networks.items():
    torch.manual_seed(0)
    model = SentenceClassifier(vectors, encoder(), num_classes=3, dropout=0.1)
    flow = gradient_flow(model, (train.x[:100], train.y[:100]))
    fit(
        Backprop(model, cross_entropy),
        Batches(train, 50, shuffle=True),
        torch.optim.Adam(model.parameters(), 1e-2),
        epochs=6,
    )
    count = sum(p.numel() for p in model.encoder.parameters())
    print(f"{name}: {count:,} weights, accuracy {evaluate(model, Batches(test, 100)):.2f}")
    print("  gradient of a weight, layer by layer:", " ".join(f"{size:.1e}" for size in flow.sizes[:-1]))
