"""Perceptrons, and a router between perceptrons and KANs, in a transformer on digits: accuracy, cost, who gets what."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, unfold

from neurarium.data import Batches, load
from neurarium.layers import MLPKAN, mlp_expert, replace_feed_forward
from neurarium.learning import Backprop
from neurarium.objectives import load_balance
from neurarium.probes import mixture_cost, routing
from neurarium.training import evaluate, fit

digits = load("digits").scaled().map_inputs(lambda x: unfold(x.unsqueeze(1), 2, stride=2).mT)  # 16 tokens of 4 pixels
train, test = Batches(digits.train, 64, shuffle=True, seed=0), Batches(digits.test, 256)


class Transformer(nn.Module):
    """Two layers; the mean of the tokens is read out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(4, 24), nn.Parameter(torch.randn(16, 24))
        layer = nn.TransformerEncoderLayer(24, 3, 48, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.layers(self.embed(x) + self.positions).mean(1))


blocks = {
    "perceptron": lambda width: mlp_expert(width, 2 * width),
    "MLP-KAN": lambda width: MLPKAN(width, n_mlp=2, n_kan=2, balance=0.01),
}
for name, block in blocks.items():
    torch.manual_seed(0)
    model = replace_feed_forward(Transformer(), block).model
    penalties = [lambda model=model: load_balance(model)] if name == "MLP-KAN" else []
    fit(
        Backprop(model, cross_entropy),
        train,
        torch.optim.AdamW(model.parameters(), 3e-3),
        epochs=3,
        penalties=penalties,
    )
    print(f"{name}: accuracy {evaluate(model, test):.3f}")

print(mixture_cost(model, digits.test.x[:64]).summary())
shares = routing(model, test)
print(shares.summary())
for digit, share in shares.kan_by_class.items():
    print(f"digit {digit}: " + ", ".join(f"{part:.0%}" for part in share) + " to KANs")
