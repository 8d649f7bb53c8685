"""How narrow can a network be that computes a word in a group? Bounds, exact networks, and the narrowest fit found."""

import torch

from neurarium.data import FiniteGroup
from neurarium.models import composition_network
from neurarium.theory import cp_decomposition, fusion_cover, rank_bound, word_support, word_tensor

for group in (FiniteGroup.cyclic(7), FiniteGroup.symmetric(3), FiniteGroup.quaternion(), FiniteGroup.symmetric(4)):
    net = composition_network(group, scale="projector", dtype=torch.float64)
    error = float((net.tensor() - word_tensor(group, "ab")).abs().max())
    print(
        f"{group}: ab {rank_bound(group, 'ab').summary()}; exact network: {net.left.embedding_dim}, error {error:.0e}"
    )
    for word in ("aab", "abAB"):
        inside, cover = int(word_support(group, word).sum()), int(fusion_cover(group, word).sum())
        print(f"  {word}: {inside} blocks of {len(group.irreps) ** 3}, {cover} allowed by fusion")

tensor = word_tensor(FiniteGroup.symmetric(3), "aab")
for rank in (6, 7, 8):
    found = cp_decomposition(tensor, rank, steps=200, generator=torch.Generator().manual_seed(0))
    print(f"aab in S_3 with {rank} products: relative error {found.error:.1e}")
