"""A language model grows a layer at a time on an embedding of pictures that never learns.

Bochkov, 2025: Growing Transformers: Modular Composition on a Frozen Substrate (arXiv 2507.07129).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, characters, text_windows
from neurarium.learning import Backprop, LayerGrowth
from neurarium.models import RotaryDecoder, visual_embedding
from neurarium.training import fit


def token_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy over all tokens."""
    return cross_entropy(logits.flatten(0, 1), y.flatten())


torch.manual_seed(0)
text = "the quick brown fox jumps over the lazy dog. " * 60  # or neurarium.data.load_corpus("fortunes").lower()
tokens, alphabet = characters(text)
model = RotaryDecoder(len(alphabet), d_model=32, num_layers=3)
model.tokens = visual_embedding(alphabet, 32)
growth = LayerGrowth(model)
loader = Batches(text_windows(tokens, 32, stride=5), 16, shuffle=True)
while True:
    losses = fit(Backprop(model, token_loss), loader, torch.optim.AdamW(growth.parameters(), lr=5e-3))
    print(f"stage {growth.stage}: {growth.trainable_count} numbers trained, loss {losses[-1]:.2f} nats a character")
    if growth.stage == growth.stages:
        break
    growth.grow()
