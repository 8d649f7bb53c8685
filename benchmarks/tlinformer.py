"""Seconds of a generated token by the length of the text before it: TLinFormer beside a cached transformer.

    python benchmarks/tlinformer.py

The transformer is the same eight layers of width 256 with an ordinary key-value cache, which is what one would use
otherwise (its cache is filled with random keys, which cost the same). A miss recurs every ``generation_window`` tokens.
Prints the medians of interleaved repetitions and their ratios: 8,192 tokens to 512, and TLinFormer to the transformer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from neurarium.models import RotaryDecoder, TLinFormer, WindowCache

LENGTHS, WINDOW, WIDTH, HEADS, LAYERS = (512, 8192), 256, 256, 8, 8


def seconds(computation: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    computation()
    return time.perf_counter() - start


def filled(model: RotaryDecoder, tokens: torch.Tensor) -> WindowCache:
    """A cache that holds the tokens, with random keys and values."""
    cache = model.empty_cache()
    model.next_logits(tokens[:, :1], cache)
    shape = (1, HEADS, tokens.shape[1] - 1, WIDTH // HEADS)
    for layer in cache.window:
        layer.append(torch.randn(shape), torch.randn(shape))
    cache.tokens = tokens
    return cache


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain = RotaryDecoder(256, WIDTH, HEADS, LAYERS).eval()
    tlin = TLinFormer(plain, 4, WINDOW, WINDOW).eval()
    found: dict[tuple[str, int], list[float]] = {}
    texts = {n: torch.randint(256, (1, n + WINDOW // 2)) for n in LENGTHS}
    known = {}
    for n, text in texts.items():
        known["transformer", n] = plain, filled(plain, text[:, :n])
        cache = tlin.empty_cache()
        tlin.next_logits(text[:, :n], cache)
        tlin.next_logits(text[:, : n + 1], cache)
        known["TLinFormer", n] = tlin, cache
    for step in range(2, 42):
        for (name, n), (model, cache) in known.items():
            took = seconds(lambda: model.next_logits(texts[n][:, : n + step], cache))  # noqa: B023 - called at once
            found.setdefault((name, n), []).append(took)
    for n in LENGTHS:
        found["miss", n] = [seconds(lambda: tlin.next_logits(texts[n][:, : n + 1])) for _ in range(3)]  # noqa: B023
    median = {key: statistics.median(times) for key, times in found.items()}
    for (name, n), time_taken in median.items():
        print(f"{name}, {n:,} tokens known: {1e3 * time_taken:.2f} ms")
    short, long = LENGTHS
    for name in ("TLinFormer", "transformer", "miss"):
        print(f"{name}: {long:,} / {short:,} tokens = {median[name, long] / median[name, short]:.2f}")
    for n in LENGTHS:
        average = (median["miss", n] + (WINDOW - 1) * median["TLinFormer", n]) / WINDOW
        hit, every = median["TLinFormer", n] / median["transformer", n], average / median["transformer", n]
        print(f"TLinFormer / transformer, {n:,} tokens: {hit:.2f} for a hit, {every:.2f} with the misses")


if __name__ == "__main__":
    main()
