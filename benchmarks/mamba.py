"""A Mamba block against that of transformers (its path without CUDA kernels), with the same weights.

    pip install transformers
    python benchmarks/mamba.py

Forward and backward of one block on one core, least processor time of alternating runs, and how far outputs differ.
The study's students read 16 tokens; 256 show the cost of length. Ten seconds.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from neurarium.layers import MambaBlock


def peer(block: MambaBlock) -> Any:
    """transformers' block with the same weights."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    width = block.out_proj.out_features
    config = MambaConfig(hidden_size=width, state_size=block.d_state, time_step_rank=block.rank, num_hidden_layers=1)
    other = MambaMixer(config, layer_idx=0)
    other.load_state_dict(block.state_dict())
    return other


def step(block: Any, x: Tensor) -> float:
    """Seconds of a forward and a backward pass."""
    start = time.process_time()
    block(x).square().mean().backward()
    return time.process_time() - start


def main() -> None:
    """Print a line per size."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for width, states, batch, tokens in ((16, 4, 64, 16), (32, 16, 64, 16), (32, 16, 4, 256)):
        ours = MambaBlock(width, states)
        theirs = peer(ours)
        x = torch.randn(batch, tokens, width)
        apart = float((ours(x) - theirs(x)).detach().abs().max())
        seconds = [(step(ours, x), step(theirs, x)) for _ in range(5)]
        mine, other = (1e3 * min(each) for each in zip(*seconds, strict=True))
        print(
            f"width {width}, {states} states, batch {batch}, {tokens} tokens: {mine:.1f} ms, theirs {other:.1f} ms: "
            f"{mine / other:.2f} times its time; outputs differ by {apart:.1g}"
        )


if __name__ == "__main__":
    main()
