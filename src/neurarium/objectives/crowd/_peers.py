"""Other models of annotators around the same classifier, to compare with: one confusion for all examples, mostly."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize, one_hot

from neurarium.objectives.crowd._annotator_performance import HIDDEN, PairNorm
from neurarium.objectives.crowd._crowd_model import CrowdModel, marginal


class CrowdLayer(CrowdModel):
    """A linear layer per annotator on the class probabilities (Rodrigues and Pereira, 2018).

    Args:
        model: the classifier.
        num_annotators: A.
        layer: name of its last linear layer.
    """

    def __init__(self, model: nn.Module, num_annotators: int, layer: str | None = None) -> None:
        super().__init__(model, num_annotators, layer)
        self.matrices = nn.Parameter(torch.eye(self.num_classes).repeat(num_annotators, 1, 1))

    def pair_loss(
        self, logits: Tensor, features: Tensor, rows: Tensor, annotators: Tensor, labels: Tensor
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the annotator's own scores."""
        return cross_entropy(torch.einsum("kcd,kd->kc", self.matrices[annotators], logits.softmax(1)[rows]), labels)


class TraceRegularised(CrowdModel):
    """A confusion matrix per annotator, as wrong as the labels allow (REAC; Tanno et al., 2019).

    Args:
        model: the classifier.
        num_annotators: A.
        layer: name of its last linear layer.
        strength: of the penalty on the mean trace.
    """

    def __init__(self, model: nn.Module, num_annotators: int, layer: str | None = None, strength: float = 0.01) -> None:
        super().__init__(model, num_annotators, layer)
        self.strength = strength
        self.logits = nn.Parameter((6 * torch.eye(self.num_classes) - 5).repeat(num_annotators, 1, 1))

    def pair_loss(
        self, logits: Tensor, features: Tensor, rows: Tensor, annotators: Tensor, labels: Tensor
    ) -> Float[Tensor, ""]:
        """Minus the mean log-likelihood, and the trace."""
        matrices = log_softmax(self.logits, 2)
        trace = matrices.diagonal(dim1=1, dim2=2).exp().sum(1).mean()
        return -marginal(logits, rows, matrices[annotators, :, labels]).mean() + self.strength * trace


class UnionNet(CrowdModel):
    """All annotators' labels as one set, with one distribution over them per class (Wei et al., 2022).

    Args:
        model: the classifier.
        num_annotators: A.
        layer: name of its last linear layer.
        prior_error: off the diagonal at the start.
    """

    def __init__(
        self, model: nn.Module, num_annotators: int, layer: str | None = None, prior_error: float = 1e-5
    ) -> None:
        super().__init__(model, num_annotators, layer)
        c = self.num_classes
        block = (1 - prior_error) * torch.eye(c) + prior_error / (c - 1) * (1 - torch.eye(c))
        self.matrix = nn.Parameter(block.repeat(num_annotators, 1))

    def pair_loss(
        self, logits: Tensor, features: Tensor, rows: Tensor, annotators: Tensor, labels: Tensor
    ) -> Float[Tensor, ""]:
        """Minus the mean log-probability of the labels among all labels of all annotators."""
        return -marginal(logits, rows, log_softmax(self.matrix, 0)[annotators * self.num_classes + labels]).mean()


class CommonConfusion(CrowdModel):
    """A confusion that all share and one of each annotator, mixed by example and annotator (CoNAL; Chu et al., 2021).

    Args:
        model: the classifier.
        num_annotators: A.
        layer: name of its last linear layer.
        embedding_dim: of examples and annotators.
        strength: how much the individual confusions are driven away from the common one.
    """

    def __init__(
        self,
        model: nn.Module,
        num_annotators: int,
        layer: str | None = None,
        embedding_dim: int = 20,
        strength: float = 1e-5,
    ) -> None:
        super().__init__(model, num_annotators, layer)
        self.strength = strength
        self.own = nn.Parameter(2 * torch.eye(self.num_classes).repeat(num_annotators, 1, 1))
        self.common = nn.Parameter(2 * torch.eye(self.num_classes))
        self.embed_annotator = nn.Linear(num_annotators, embedding_dim)
        self.embed_example = nn.Linear(self.feature_dim, embedding_dim)

    def pair_loss(
        self, logits: Tensor, features: Tensor, rows: Tensor, annotators: Tensor, labels: Tensor
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the mixed scores, minus the distances of individual confusions from the common one."""
        of_annotator = normalize(self.embed_annotator.weight.mT + self.embed_annotator.bias, dim=1)
        of_example = normalize(self.embed_example(features.detach()), dim=1)
        share = (of_example[rows] * of_annotator[annotators]).sum(1, keepdim=True).sigmoid()
        p = logits.softmax(1)
        own = torch.einsum("kc,kcd->kd", p[rows], self.own[annotators])
        scores = share * (p @ self.common)[rows] + (1 - share) * own
        apart = (self.own - self.common).flatten(1).norm(dim=1).sum()
        return cross_entropy(scores, labels) - self.strength * apart


class LowRankConfusion(CrowdModel):
    """Confusion as a product of an annotator's competences and an example's difficulties (LIA; Platanios et al., 2020).

    Expectation maximisation with an expectation for each batch, whose gradient is that of the likelihood. During the
    first batches the expectation is the share of votes, which settles which class is which.

    Args:
        model: the classifier.
        num_annotators: A.
        layer: name of its last linear layer.
        rank: factors per entry of the matrix.
        vote_batches: how many batches take the votes for the expectation.
    """

    def __init__(
        self,
        model: nn.Module,
        num_annotators: int,
        layer: str | None = None,
        rank: int = 1,
        vote_batches: int = 100,
    ) -> None:
        super().__init__(model, num_annotators, layer)
        self.rank, self.vote_batches = rank, vote_batches
        entries = rank * self.num_classes**2
        self.competences = nn.Linear(num_annotators, entries)
        self.difficulties = nn.Sequential(
            nn.Linear(self.feature_dim, HIDDEN), PairNorm(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, entries)
        )
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def pair_loss(
        self, logits: Tensor, features: Tensor, rows: Tensor, annotators: Tensor, labels: Tensor
    ) -> Float[Tensor, ""]:
        """Minus the mean log-likelihood, or in the first batches minus that of votes and labels together."""
        c = self.num_classes
        competence = (self.competences.weight.mT + self.competences.bias).unflatten(1, (c, c, self.rank))
        difficulty = self.difficulties(features.detach()).unflatten(1, (c, c, self.rank))
        matrix = log_softmax((competence[annotators] * difficulty[rows]).sum(3), 2)
        said = matrix.gather(2, labels[:, None, None].expand(-1, c, 1)).squeeze(2)
        voting = int(self.seen) < self.vote_batches
        if self.training:
            self.seen += 1
        if not voting:
            return -marginal(logits, rows, said).mean()
        votes = torch.zeros_like(logits).index_add_(0, rows, one_hot(labels, c).to(logits))
        share = votes / votes.sum(1, keepdim=True).clamp_min(1)
        given = rows.unique()
        return -(share * logits.log_softmax(1)).sum() / len(given) - (share[rows] * said).sum() / len(rows)
