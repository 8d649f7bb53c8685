"""A small language model whose layers see a long history through its last positions.

Tang, 2025: Rethinking Transformer Connectivity: TLinFormer (arXiv 2508.20407).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, characters, text_windows
from neurarium.models import RotaryDecoder, TLinFormer
from neurarium.probes import attention_cost

torch.manual_seed(0)
text = "the quick brown fox jumps over the lazy dog. " * 60  # or neurarium.data.load_corpus("fortunes")
tokens, alphabet = characters(text)
model = TLinFormer(RotaryDecoder(len(alphabet), d_model=32, num_layers=4), history_window=16, generation_window=16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for x, y in Batches(text_windows(tokens, 48, stride=5), 16, shuffle=True):
    loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.2f} nats a character")

start, _ = characters("the quick ", alphabet)
print("".join(alphabet[i] for i in model.generate(start[None], 60)[0].tolist()))
print(attention_cost(model, (64, 256, 1024)).summary())
