"""Random patterns with blank entries, and noisy examples of them, for associative memories."""

from __future__ import annotations

import torch
from torch import Tensor


def diluted_patterns(
    num_patterns: int,
    num_neurons: int,
    dilution: float = 0.0,
    *,
    sampling: str = "independent",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Patterns of -1, 0 and +1: an entry is blank with probability d, else either sign alike (arXiv 2308.04106, eq. 1).

    Args:
        num_patterns: K.
        num_neurons: N.
        dilution: d in [0, 1); 0 gives the binary patterns of Hopfield's network.
        sampling: ``"independent"`` entries; ``"blanks"``: exactly ``round(d N)`` blanks in each pattern, at random
            places; ``"columns"``: each of the 3^K columns of entries as often as expected (to within one), in random
            order, which leaves no chance correlation between patterns.
        generator: source of the draws; torch's global one by default.
        device: of the result; draws are made on the generator's.

    Returns:
        ``[num_patterns, num_neurons]``, float32.

    Raises:
        ValueError: a dilution outside [0, 1) or that leaves no entry, an unknown sampling, more columns than neurons.
    """
    if not 0 <= dilution < 1:
        raise ValueError(f"dilution must lie in [0, 1), not {dilution}")
    if sampling not in ("independent", "blanks", "columns"):
        raise ValueError(f"sampling must be 'independent', 'blanks' or 'columns', not {sampling!r}")
    place = generator.device if generator is not None else device
    if sampling == "columns":
        order = torch.randperm(num_neurons, generator=generator, device=place)
        return _columns(num_patterns, num_neurons, dilution).to(place)[:, order].to(device)
    shape = (num_patterns, num_neurons)
    signs = torch.randint(2, shape, generator=generator, device=place).float() * 2 - 1
    draws = torch.rand(shape, generator=generator, device=place)
    blanks = round(dilution * num_neurons)
    if sampling == "blanks" and blanks == num_neurons:
        raise ValueError(f"dilution {dilution} leaves none of {num_neurons} entries")
    keep = draws.argsort(1).argsort(1) >= blanks if sampling == "blanks" else draws >= dilution
    return (signs * keep).to(device)


def _columns(num_patterns: int, num_neurons: int, dilution: float) -> Tensor:
    """All columns of entries in their expected numbers, the largest remainders rounded up."""
    if 3**num_patterns > num_neurons:
        raise ValueError(f"{num_patterns} patterns have {3**num_patterns} columns, more than {num_neurons} neurons")
    kinds = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * num_patterns).reshape(-1, num_patterns)
    blanks = (kinds == 0).sum(1).double()
    expected = num_neurons * dilution**blanks * ((1 - dilution) / 2) ** (num_patterns - blanks)
    counts = expected.floor().long()
    counts[(expected - counts).argsort(descending=True, stable=True)[: num_neurons - int(counts.sum())]] += 1
    return kinds.repeat_interleave(counts, 0).T.contiguous()


def noisy_examples(patterns: Tensor, quality: float, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Examples of patterns: each non-blank entry keeps its sign with probability (1 + r) / 2; blanks stay blank.

    Args:
        patterns: ``[num_patterns, num_neurons]`` of -1, 0 and +1.
        quality: r in (0, 1]; 1 gives perfect copies.
        count: M, examples of each pattern.
        generator: source of the draws; torch's global one by default.

    Returns:
        ``[num_patterns, count, num_neurons]``, of the patterns' dtype.

    Raises:
        ValueError: a quality outside (0, 1], or entries that are not -1, 0 or +1.
    """
    if not 0 < quality <= 1:
        raise ValueError(f"quality must lie in (0, 1], not {quality}")
    if bool(((patterns != 0) & (patterns.abs() != 1)).any()):
        raise ValueError("patterns must have entries -1, 0 or +1")
    place = generator.device if generator is not None else patterns.device
    shape = (patterns.shape[0], count, patterns.shape[1])
    keep = torch.rand(shape, generator=generator, device=place).to(patterns.device) < (1 + quality) / 2
    rows = patterns.unsqueeze(1)
    return torch.where(keep, rows, -rows)
