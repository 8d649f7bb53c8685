"""How the components of `neurarium.speech` are used."""

from __future__ import annotations

import torch
from torch import Tensor

from neurarium import speech
from neurarium.testing.examples._shared import seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "FullSumLoss": lambda w: (speech.FullSumLoss(), aligned(w)),
    "GenerativeFullSumLoss": lambda w: (speech.GenerativeFullSumLoss(), aligned(w)),
    "BiasModel": lambda w: (speech.BiasModel(4), (symbols(w),)),
    "BlstmModel": lambda w: (speech.BlstmModel(5, 4, 6), (symbols(w),)),
    "MemoryModel": lambda w: (speech.MemoryModel(3, 4), (symbols(w),)),
    "SymbolLikelihood": lambda w: (speech.SymbolLikelihood(5, 4), (symbols(w),)),
    "SymbolModel": lambda w: (speech.SymbolModel(5, 4), (symbols(w),)),
    "SymbolOddsModel": lambda w: (speech.SymbolOddsModel(5), (symbols(w) % 2,)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "alignment_graph": lambda w: speech.alignment_graph("ctc", w.whole([1, 2], [2, 2]), w.whole(2, 2)),
    "best_path_loss": lambda w: speech.best_path_loss(w.logp(6, 2, 4), graph(w)),
    "bigram_viterbi": lambda w: speech.bigram_viterbi(w.logp(2, 6, 4), w.positive(4, 4)),
    "ctc_graph": lambda w: graph(w),
    "estimate_transitions": lambda w: speech.estimate_transitions(w.whole([0, 1, 2, 1], [1, 1, 0, 2]), 3),
    "exact_occupation": lambda w: speech.exact_occupation(graph(w), 4, 3),
    "count": lambda w: speech.count(graph(w), 4),
    "label_counts": lambda w: torch.as_tensor(speech.label_counts(graph(w), 4, 3).astype(float)),
    "first_step": lambda w: speech.first_step(w.logp(6, 2, 4), w.whole([1, 2], [2, 2]), target_lengths=w.whole(2, 2)),
    "frame_error_rate": lambda w: speech.frame_error_rate(w.whole([0, 1, 2]), w.whole([0, 1, 1])),
    "phone_error_rate": lambda w: speech.phone_error_rate(w.whole([0, 1, 2]), w.whole([0, 1, 1])),
    "full_sum": lambda w: speech.full_sum(w.logp(6, 2, 4), graph(w)),
    "greedy_labels": lambda w: speech.greedy_labels(w.logp(6, 2, 4)),
    "join_words": lambda w: speech.join_words([w.x(7, 3), w.x(5, 3, seed=1)], w.whole(1, 2), 2, generator=seed()),
    "label_loop_graph": lambda w: speech.label_loop_graph(w.whole([1, 2], [2, 2]), w.whole(2, 2)),
    "log_mel": lambda w: speech.log_mel(w.x(4000), 8000),
    "log_prior": lambda w: speech.log_prior(w.logp(6, 2, 4), w.whole(6, 5)),
    "occupation": lambda w: speech.occupation(w.logp(6, 2, 4), graph(w)),
    "sample": lambda w: speech.sample(w.logp(6, 2, 4), graph(w), n=2, generator=seed()),
    "shortest": lambda w: speech.shortest(graph(w)),
    "silence_graph": lambda w: speech.silence_graph(w.whole([1, 2], [2, 2]), w.whole(2, 2)),
    "viterbi": lambda w: speech.viterbi(w.logp(6, 2, 4), graph(w)),
}  # fmt: skip


def graph(w: World) -> speech.AlignmentGraph:
    """The CTC graph of two short targets."""
    return speech.ctc_graph(w.whole([1, 2], [2, 2]), w.whole(2, 2))


def aligned(w: World) -> tuple[Tensor, ...]:
    """Log-probabilities, targets and lengths, as `torch.nn.CTCLoss` takes them."""
    return w.logp(6, 2, 4), w.whole([1, 2], [2, 2]), w.whole(6, 6), w.whole(2, 2)


def symbols(w: World) -> Tensor:
    """Two utterances of three symbols."""
    return w.whole([0, 1, 4], [2, 3, 1])
