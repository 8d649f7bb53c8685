"""Losses over alignments with the calling convention of `torch.nn.CTCLoss`, and the variants that are not peaky."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.speech._inputs import Targets, check_log_probs, check_targets, padded_targets, within
from neurarium.speech.alignment._graph import AlignmentGraph
from neurarium.speech.alignment._lattice import frame_lengths, full_sum, occupation
from neurarium.speech.alignment._paths import best_path_loss, shortest
from neurarium.speech.alignment._topology import Topology, alignment_graph

Prior = Literal["through", "stop", "renormalize"]
Lengths = Tensor | tuple[int, ...] | list[int]


class FullSumLoss(nn.Module):
    """-log of the summed probability of all alignments of the target: CTC, and what removes its peaks.

    ``FullSumLoss(blank=0)`` takes the place of ``torch.nn.CTCLoss(blank=0)`` and gives the same value and gradient.

    Args:
        topology: ``ctc``; ``silence``, where ``blank`` may stand at the start, the end and between words only; or
            ``labels``, without any blank.
        blank: label of the blank or of the silence.
        prior: divide the posteriors by the label prior, the mean of the current batch's posteriors over real frames
            (section 5.3). ``stop`` takes it as a constant; ``through`` differentiates it too; ``renormalize`` takes
            it as a constant and makes the quotient sum to 1 again. The first two are no log-probabilities of anything
            and may be negative.
        prior_scale: exponent of the prior.
        viterbi: share of the best alignment's score in the loss: 0 for the full sum, 1 for Viterbi training.
        rebalance: take the gradient of label k times 1 - mean over frames of its soft alignment, so that the label
            with most frames gets the least. It is a change of the gradient only: the value stays the full sum.
        separator: for ``silence``: the label that stands between words in the targets; see `silence_graph`.
        reduction: ``mean`` (each loss over its number of labels, then the mean, as in torch), ``sum`` or ``none``.
        zero_infinity: loss and gradient 0 for utterances without an alignment; otherwise a target that needs more
            frames than its utterance has is an error.

    Raises:
        ValueError: an argument outside its range, or ``rebalance`` together with ``viterbi``.
    """

    normalized = True

    def __init__(
        self,
        topology: Topology = "ctc",
        blank: int = 0,
        prior: Prior | None = None,
        prior_scale: float = 1.0,
        viterbi: float = 0.0,
        rebalance: bool = False,
        separator: int | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
        zero_infinity: bool = False,
    ) -> None:
        super().__init__()
        if topology not in ("ctc", "silence", "labels"):
            raise ValueError(f"topology must be 'ctc', 'silence' or 'labels', not {topology!r}")
        if prior not in (None, "through", "stop", "renormalize"):
            raise ValueError(f"prior must be None, 'through', 'stop' or 'renormalize', not {prior!r}")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
        if not 0.0 <= viterbi <= 1.0:
            raise ValueError(f"viterbi must be a share between 0 and 1, not {viterbi}")
        if not 0.0 <= prior_scale < math.inf:
            raise ValueError(f"prior_scale must be at least 0, not {prior_scale}")
        if rebalance and viterbi:
            raise ValueError("rebalance scales the gradient of the full sum; it does not go with viterbi")
        self.topology: Topology = topology
        self.blank = blank
        self.prior: Prior | None = prior
        self.prior_scale = prior_scale
        self.viterbi = viterbi
        self.rebalance = rebalance
        self.separator = separator
        self.reduction = reduction
        self.zero_infinity = zero_infinity

    def extra_repr(self) -> str:
        return f"topology={self.topology!r}, blank={self.blank}, prior={self.prior!r}, viterbi={self.viterbi:g}"

    def graph(self, targets: Tensor, target_lengths: Tensor) -> AlignmentGraph:
        """The alignments that count; a subclass may return a graph with weights of its own."""
        return alignment_graph(self.topology, targets, target_lengths, blank=self.blank, separator=self.separator)

    def forward(
        self,
        log_probs: Float[Tensor, "frames batch labels"] | Float[Tensor, "frames labels"],
        targets: Targets,
        input_lengths: Lengths,
        target_lengths: Lengths,
    ) -> Tensor:
        """The loss; arguments as of `torch.nn.CTCLoss`.

        Args:
            log_probs: log-softmax outputs [frames, batch, labels], or [frames, labels] for one utterance.
            targets: padded [batch, labels], all targets in one row, or a list of lists of labels (for one utterance, a
                list).
            input_lengths: frames of each utterance.
            target_lengths: labels of each target.

        Raises:
            ValueError: ``log_probs`` are not normalised or have NaN, blank or a target is no label, or a target does
                not fit into its frames.
        """
        single = log_probs.dim() == 2
        if not isinstance(targets, Tensor):
            targets = _listed(targets, target_lengths, single)
        if single:
            log_probs, targets = log_probs[:, None], targets.reshape(1, -1)
        target_lengths = torch.as_tensor(target_lengths, device=targets.device).long().reshape(-1)
        padded, target_lengths = padded_targets(targets.to(log_probs.device), target_lengths.to(log_probs.device))
        needs_blank = self.topology != "labels"
        check_targets(padded, target_lengths, log_probs.shape[-1], self.blank if needs_blank else None)
        graph = self.graph(padded, target_lengths)
        lengths = torch.as_tensor(input_lengths).reshape(-1)
        lengths = frame_lengths(log_probs, graph, lengths)
        check_log_probs(log_probs, lengths, self.normalized)
        losses = self._losses(log_probs, graph, lengths)
        impossible = losses.detach().isinf()
        if self.zero_infinity:
            losses = torch.where(impossible, 0.0, losses)
        elif bool(impossible.any()):
            _explain(graph, lengths, impossible)
        if single:
            losses = losses[0]
            target_lengths = target_lengths[0]
        if self.reduction == "mean":
            return (losses / target_lengths.clamp_min(1)).mean()
        return losses.sum() if self.reduction == "sum" else losses

    def _losses(self, log_probs: Tensor, graph: AlignmentGraph, lengths: Tensor) -> Float[Tensor, " batch"]:
        scores = log_probs
        if self.prior is not None:
            prior = log_prior(log_probs if self.prior == "through" else log_probs.detach(), lengths)
            scores = log_probs - self.prior_scale * prior
            if self.prior == "renormalize":
                scores = scores.log_softmax(-1)
        if self.viterbi == 1.0:
            return best_path_loss(scores, graph, lengths)
        if self.rebalance:
            scores = _Scaled.apply(scores, _rarity(scores, graph, lengths))
        losses = full_sum(scores, graph, lengths)
        if self.viterbi > 0.0:
            best = best_path_loss(scores, graph, lengths)
            losses = (1 - self.viterbi) * losses + self.viterbi * best  # torch.lerp makes NaN of two infinities
        return losses


class GenerativeFullSumLoss(FullSumLoss):
    """-log sum over alignments of prod_t p(x_t | s_t): the loss of a hidden Markov model (section 5.4).

    The scores are log-likelihoods of the observed input under each label, normalised over inputs and not over labels,
    such as those of `SymbolLikelihood`. There is no prior to divide by.

    Args:
        topology: as in `FullSumLoss`.
        blank: label of the blank or of the silence.
        viterbi: share of the best alignment's score in the loss.
        separator: as in `FullSumLoss`.
        reduction: as in `FullSumLoss`.
        zero_infinity: as in `FullSumLoss`.
    """

    normalized = False

    def __init__(
        self,
        topology: Topology = "ctc",
        blank: int = 0,
        viterbi: float = 0.0,
        separator: int | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
        zero_infinity: bool = False,
    ) -> None:
        super().__init__(
            topology=topology,
            blank=blank,
            viterbi=viterbi,
            separator=separator,
            reduction=reduction,
            zero_infinity=zero_infinity,
        )


def _listed(targets: Sequence[Any], lengths: Lengths, single: bool) -> Tensor:
    """Lists of labels as a padded tensor.

    Raises:
        ValueError: they have other lengths than ``target_lengths`` says, or are no whole numbers.
    """
    rows = [targets] if single and not any(isinstance(row, (list, tuple, Tensor)) for row in targets) else targets
    try:
        padded, found = padded_targets(rows)
    except TypeError:
        raise ValueError("targets must be a tensor, or a list with a list of labels for each utterance") from None
    said = torch.as_tensor(lengths).reshape(-1).tolist()
    if found.tolist() != said:
        raise ValueError(f"targets have the lengths {found.tolist()}, but target_lengths says {said}")
    return padded


def log_prior(
    log_probs: Float[Tensor, "frames batch labels"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, " labels"]:
    """log of the mean posterior of each label over all real frames of a batch; finite even for a label never seen.

    Differentiable. Frames after an utterance's end are left out.
    """
    real = within(lengths, len(log_probs))[..., None]
    lowest = torch.finfo(log_probs.dtype).min / 4
    logs = torch.where(real, log_probs, lowest).clamp_min(lowest)  # -inf would make the gradient NaN
    return logs.flatten(0, 1).logsumexp(0) - math.log(int(lengths.sum()))


class _Scaled(torch.autograd.Function):
    """The identity, with a factor on the gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * factor, None


def _rarity(scores: Tensor, graph: AlignmentGraph, lengths: Tensor) -> Float[Tensor, "batch labels"]:
    """1 - the share of an utterance's frames that the soft alignment gives to a label."""
    return 1.0 - occupation(scores.detach(), graph, lengths).sum(0) / lengths[:, None]


def _explain(graph: AlignmentGraph, lengths: Tensor, impossible: Tensor) -> None:
    """Raise where the target is too long; a loss that is inf because of the scores is left as it is."""
    least = shortest(graph)
    short = impossible & (lengths < least)
    if bool(short.any()):
        b = int(short.nonzero()[0])
        raise ValueError(
            f"the target of utterance {b} needs at least {int(least[b])} frames, it has {int(lengths[b])}; "
            "zero_infinity=True leaves such utterances out"
        )
