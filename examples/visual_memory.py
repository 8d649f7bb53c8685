"""Voting by rank among remembered embeddings needs no tuning of k, and what is remembered can be added and removed.

Geirhos et al., 2024: Towards flexible perception with visual memory (arXiv 2408.08172).
"""

from neurarium.continual import VisualMemory
from neurarium.data import load

digits = load("digits").flat()
memory = VisualMemory(k=50)  # VisualMemory(encoder, path="memory/") for images and a disk
memory.add(digits.train.x.float(), digits.train.y, ids=[f"image {i}" for i in range(len(digits.train))])
x, y = digits.test.x.float(), digits.test.y
print("accuracy", (memory.classify(x) == y).float().mean())

reason = memory.explain(x[:1])[0]  # which items decided, and by how much
print(reason.label, reason.ids[:3], reason.shares[:3])
memory.remove(reason.ids[:1])  # gone: from the answers, and from the file
memory.relabel(reason.ids[1], 3)
memory.prune("soft")  # items that are often a wrong neighbour count less
memory.remove(labels=[9])
assert not (memory.classify(x) == 9).any()
