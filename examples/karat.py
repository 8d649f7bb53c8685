"""Softmax, a learned operator and its linear part in a small transformer on digits: accuracy, rank of the weights."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, unfold

from neurarium.data import Batches, load
from neurarium.layers import replace_attention
from neurarium.learning import Backprop
from neurarium.probes import attention_spectrum
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


for basis in ("softmax", "fourier", "linear"):
    torch.manual_seed(0)
    model = replace_attention(Transformer(), num_tokens=16, basis=basis).model
    fit(Backprop(model, cross_entropy), train, torch.optim.AdamW(model.parameters(), 3e-3), epochs=4)
    print(f"{basis}: accuracy {evaluate(model, test):.3f}")
    print(attention_spectrum(model, digits.test.x[:64]).summary())
