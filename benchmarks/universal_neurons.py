"""Every MLP neuron of a Hugging Face decoder against itself, and a random basis (target: 5 minutes, 4 GiB).

python benchmarks/universal_neurons.py FOLDER TEXT --tokens 100000 --threads 2

FOLDER holds weights and tokenizer as `save_pretrained` writes them (extra "language"). A model against itself has a
best correlation of 1 for every neuron that lives; the baseline says how much of that the space alone would give.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import torch

from neurarium.probes import excess_correlation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    ids = tokenizer(options.text.read_text(encoding="utf-8"), return_tensors="pt").input_ids[0, : options.tokens]
    batches = ids[: len(ids) // 256 * 256].view(-1, 256).split(8)
    newline = tokenizer("\n").input_ids
    wall, cpu = time.perf_counter(), time.process_time()
    found = excess_correlation(model, model, batches, pairs="matching", exclude=newline)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    live = found.best[0] > 0
    print(f"{int(live.sum()):,} of {len(live):,} neurons, {found.samples:,} tokens: {wall:.0f} s wall, {cpu:.0f} s CPU")
    print(f"peak resident memory {peak:.2f} GiB; least best correlation {float(found.best[0][live].min()):.5f}")
    print(found.summary())


if __name__ == "__main__":
    main()
