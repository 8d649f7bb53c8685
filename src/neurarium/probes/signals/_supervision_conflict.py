"""Whether what tells images apart and what puts them into classes pull on a representation in opposite directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from neurarium.objectives import OmniSupervised
from neurarium.probes._result import ProbeResult
from neurarium.training import undisturbed


@dataclass(frozen=True)
class SupervisionConflict(ProbeResult):
    """How the gradients of two supervisions meet.

    Args:
        cosines: between both gradients at the lowest projection, one per view of an image [2 * images].
        backbone_cosine: between both gradients over all parameters of the backbone.
        norm_ratio: mean norm of the labels' gradient at the projection, over that of the instances'.
        pulled: share of pairs of two images of one class that the labels pull together, while as negatives of each
            other the instances push them apart; nan without such a pair.
        opposed: share of those that the instances push apart on the whole, the attraction of each image's own other
            view included, which lies in the same direction where the class is near.
    """

    cosines: Tensor
    backbone_cosine: float
    norm_ratio: float
    pulled: float
    opposed: float

    @property
    def mean_cosine(self) -> float:
        """Over views of images; below 0 where the supervisions contradict each other."""
        return float(self.cosines.mean())

    def summary(self) -> str:
        """The four numbers."""
        return (
            f"gradients meet with a cosine of {self.mean_cosine:.3f} at the projection and {self.backbone_cosine:.3f} "
            f"in the backbone; labels pull {self.norm_ratio:.2f} times as hard; {self.pulled:.1%} of the pairs of one "
            f"class are pulled together, {self.opposed:.1%} pulled together and on the whole pushed apart"
        )

    def plot(self, ax: Any) -> Any:
        """Histogram of the cosines."""
        ax.hist(self.cosines.cpu().double().numpy(), bins=40, range=(-1, 1))
        ax.axvline(self.mean_cosine, color="black", linestyle="dashed")
        ax.set(xlabel="cosine of the two gradients at the projection", ylabel="views of images", xlim=(-1, 1))
        return ax


def supervision_conflict(objective: OmniSupervised, view1: Any, view2: Any, target: Tensor) -> SupervisionConflict:
    """How the gradients of contrast and classification meet at the lowest projection and in the backbone.

    A pair of one class is pulled together where moving one image's projection towards the other image's key lowers the
    loss of the classes, and opposed where it also raises that of the instances.

    Args:
        objective: as it is trained, in the mode in which it is; its state is left as it was.
        view1: a view of each image.
        view2: another.
        target: labels [images], -1 for unknown.

    Raises:
        ValueError: what the objective refuses, or no labelled image.
    """
    if not bool((target >= 0).any()):
        raise ValueError("target must hold a label: without one there is one supervision, and no conflict")
    parameters = [p for p in objective.backbone.parameters() if p.requires_grad]
    with undisturbed(objective), torch.enable_grad():
        found = objective.losses(view1, view2, target)
        at = [*found.representations, *parameters]
        both = [
            torch.autograd.grad(loss, at, retain_graph=True, materialize_grads=True)
            for loss in (found.instances, found.labels[0])
        ]
    instances, labels = (torch.cat([g.detach() for g in grads[:2]]) for grads in both)
    deep = [torch.cat([g.flatten() for g in grads[2:]]) if parameters else torch.zeros(1) for grads in both]
    known = (target >= 0).repeat(2)
    return SupervisionConflict(
        cosine_similarity(instances, labels, dim=1)[known],
        float(cosine_similarity(deep[0], deep[1], dim=0)),
        float(labels[known].norm(dim=1).mean() / instances[known].norm(dim=1).mean()),
        *opposed_pairs(instances, labels, torch.cat(found.keys[::-1]), target.repeat(2), len(target)),
    )


def opposed_pairs(instances: Tensor, labels: Tensor, keys: Tensor, target: Tensor, images: int) -> tuple[float, float]:
    """Shares of pairs of one class for which a step of one towards the other serves the labels; and only those."""
    towards = normalize(keys, dim=1)
    pulled, pushed = labels @ towards.mT < 0, instances @ towards.mT > 0
    image = torch.arange(len(target), device=target.device) % images
    alike = (target[:, None] == target) & (target[:, None] >= 0) & (image[:, None] != image)
    return float(pulled[alike].double().mean()), float((pulled & pushed)[alike].double().mean())
