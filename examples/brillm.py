"""A signal flows from character to character; where it arrives with the greatest energy is what comes next.

Zhao et al., 2025: BriLLM: Brain-inspired Large Language Model (arXiv 2503.11299).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, characters, text_windows
from neurarium.models import SignalFlowLanguageModel
from neurarium.probes import edge_energies

torch.manual_seed(0)
text = "the quick brown fox jumps over the lazy dog. " * 60  # or neurarium.data.load_corpus("fortunes").lower()
tokens, alphabet = characters(text)
model = SignalFlowLanguageModel(len(alphabet), width=12)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
loader = Batches(text_windows(tokens, 16, stride=5), 16, shuffle=True)
for epoch in range(3):
    for x, y in loader:
        loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.2f} nats a character")

start, _ = characters("the qu", alphabet)
print("".join(alphabet[i] for i in model.generate(start[None], 60)[0].tolist()))
print(edge_energies(model, loader).summary())
