"""How an annotator labels: a confusion matrix for each example and each annotator, from a small network."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, logsigmoid, relu, softplus

CONFUSIONS = ("isotropic", "diagonal", "full")
HIDDEN = 128


class PairNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a single row by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """[pairs, features]."""
        if self.training and len(x) < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class AnnotatorPerformance(nn.Module):
    """log P(annotation | true class, example, annotator) of Herde, Huseljic and Sick (2023, section 4.2).

    Annotators are embedded; where confusion depends on the example, so are (detached) features of the classifier, and
    both meet in an outer product, a hidden layer and a residual connection. Everything that depends on an annotator or
    on an example alone is computed once for each, not for each pair.

    Args:
        annotators: their number, or features [annotators, features] that describe them: then others than these can be
            scored too.
        num_classes: C.
        feature_dim: width of the classifier's features.
        confusion: ``"isotropic"``: one accuracy per annotator (and example); ``"diagonal"``: one per true class;
            ``"full"``: any row-stochastic matrix.
        instance_dependent: whether confusion depends on the example (X).
        embedding_dim: Q.
        prior_accuracy: probability of a right label at the start; breaks the symmetry between permuted classes.
        outer_product: learn products of annotators' and examples' embeddings.
        residual: add the annotator's embedding to the hidden layer's output.

    Raises:
        ValueError: an argument out of range, or an unknown kind of confusion.
    """

    def __init__(
        self,
        annotators: int | Float[Tensor, "annotators attributes"],
        num_classes: int,
        feature_dim: int,
        *,
        confusion: str = "full",
        instance_dependent: bool = True,
        embedding_dim: int = 16,
        prior_accuracy: float = 0.8,
        outer_product: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if confusion not in CONFUSIONS:
            raise ValueError(f"confusion must be one of {', '.join(CONFUSIONS)}, not {confusion!r}")
        if num_classes < 2 or not 0 < prior_accuracy < 1 or min(feature_dim, embedding_dim) < 1:
            raise ValueError("num_classes must be at least 2, prior_accuracy between 0 and 1, widths at least 1")
        described = isinstance(annotators, Tensor)
        count = len(annotators) if isinstance(annotators, Tensor) else annotators
        if count < 1:
            raise ValueError(f"annotators must be at least one, not {count}")
        self.num_annotators, self.num_classes, self.confusion = count, num_classes, confusion
        self.instance_dependent, self.residual = instance_dependent, residual
        self.attributes: Tensor | None
        self.register_buffer("attributes", annotators.detach().clone() if isinstance(annotators, Tensor) else None)
        width = annotators.shape[1] if isinstance(annotators, Tensor) else count
        self.embed = nn.Linear(width, embedding_dim)
        q = embedding_dim
        if instance_dependent:
            self.embed_example = nn.Linear(feature_dim, q)
            self.product = nn.Parameter(nn.init.xavier_uniform_(torch.empty(q, q, q))) if outer_product else None
            self.hidden = nn.Linear((3 if outer_product else 2) * q, HIDDEN)
            self.norm, self.out, self.out_norm = PairNorm(HIDDEN), nn.Linear(HIDDEN, q), PairNorm(q)
        self.head = nn.Linear(q, {"isotropic": 1, "diagonal": num_classes, "full": num_classes**2}[confusion])
        odds = math.log(prior_accuracy / (1 - prior_accuracy))
        with torch.no_grad():
            if confusion == "full":
                self.head.bias.copy_(((odds + math.log(num_classes - 1)) * torch.eye(num_classes)).flatten())
            else:
                self.head.bias.fill_(odds)
        self.described = described

    def embeddings(self, attributes: Float[Tensor, "new attributes"] | None = None) -> Float[Tensor, "annotators q"]:
        """Of the annotators, or of others who are described by the same attributes.

        Raises:
            ValueError: attributes of others, where these annotators have none.
        """
        if attributes is not None:
            if self.attributes is None:
                raise ValueError("attributes of new annotators need attributes of those that were learned from")
            return linear(attributes.to(self.embed.weight), self.embed.weight, self.embed.bias)
        if self.attributes is None:  # a one-hot row chooses a column
            return self.embed.weight.mT + self.embed.bias
        return linear(self.attributes.to(self.embed.weight), self.embed.weight, self.embed.bias)

    def outputs(
        self,
        features: Float[Tensor, "batch features"],
        rows: Int[Tensor, pairs],
        annotators: Int[Tensor, pairs],
        embeddings: Float[Tensor, "annotators q"],
    ) -> Float[Tensor, "pairs outputs"]:
        """What the last layer says of pairs of an example and an annotator."""
        if not self.instance_dependent:
            return linear(embeddings, self.head.weight, self.head.bias)[annotators]
        e, g = embeddings, self.embed_example(features.detach())
        q = e.shape[1]
        parts = self.hidden.weight.split(q, 1)
        of_annotator, of_example = linear(e, parts[0], self.hidden.bias), linear(g, parts[1])
        joint: Tensor | float = 0.0
        if self.product is not None:  # (e + g)' O (e + g) = e'Oe + g'Og + e'(O + O')g
            of_annotator = of_annotator + linear(quadratic(e, self.product), parts[2])
            of_example = of_example + linear(quadratic(g, self.product), parts[2])
            crossed = torch.einsum("aq,pqr->apr", e, self.product + self.product.mT)
            joint = linear(torch.einsum("kpr,kr->kp", crossed[annotators], g[rows]), parts[2])
        h = self.norm(of_annotator[annotators] + of_example[rows] + joint)
        h = self.out_norm(self.out(relu(h)))
        return self.head(relu(h + e[annotators]) if self.residual else h)

    def log_likelihoods(
        self,
        features: Float[Tensor, "batch features"],
        rows: Int[Tensor, pairs],
        annotators: Int[Tensor, pairs],
        labels: Int[Tensor, pairs],
    ) -> Float[Tensor, "pairs classes"]:
        """log P(label | true class c, example, annotator) for each c, of labels that were given."""
        out = self.outputs(features, rows, annotators, self.embeddings())
        if self.confusion == "full":
            matrix = log_softmax(out.unflatten(1, (self.num_classes, self.num_classes)), 2)
            return matrix.gather(2, labels[:, None, None].expand(-1, self.num_classes, 1)).squeeze(2)
        wrong = -math.log(self.num_classes - 1) - softplus(out)
        hit = labels[:, None] == torch.arange(self.num_classes, device=labels.device)
        return torch.where(hit, logsigmoid(out), wrong)

    def forward(
        self, features: Float[Tensor, "batch features"], attributes: Float[Tensor, "new attributes"] | None = None
    ) -> Float[Tensor, "batch annotators classes classes"]:
        """Log of the confusion matrix of every annotator on every example, true classes along the rows.

        Args:
            features: of the classifier.
            attributes: of annotators that were not learned from, in the place of those that were.
        """
        embeddings = self.embeddings(attributes)
        pairs = torch.cartesian_prod(
            torch.arange(len(features), device=features.device), torch.arange(len(embeddings), device=features.device)
        )
        out = self.outputs(features, pairs[:, 0], pairs[:, 1], embeddings).unflatten(0, (len(features), -1))
        c = self.num_classes
        if self.confusion == "full":
            return log_softmax(out.unflatten(2, (c, c)), 3)
        wrong = (-math.log(c - 1) - softplus(out)).unsqueeze(3)
        hit = torch.eye(c, dtype=torch.bool, device=out.device)
        return torch.where(hit, logsigmoid(out).unsqueeze(3), wrong).expand(-1, -1, c, c)


def quadratic(x: Float[Tensor, "n q"], product: Float[Tensor, "q q q"]) -> Float[Tensor, "n q"]:
    """x' O_p x for each p."""
    return torch.einsum("nq,pqr,nr->np", x, product, x)
