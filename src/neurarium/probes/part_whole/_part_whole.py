"""Composability, decomposability, localizability and symmetry of an encoder's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, normalize

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation

GRIDS = {2: (1, 2), 3: (1, 3), 4: (2, 2)}
"""Rows and columns of the grid that cuts an image into so many parts."""


@dataclass(frozen=True)
class Composability(ProbeResult):
    """Cosines between embeddings of wholes and means of those of their parts.

    Args:
        cosines: by the number of parts [images].
        unrelated: mean cosine between wholes of different images; near 1 where the encoder has collapsed, and the
            cosines then say nothing.
    """

    cosines: dict[int, Tensor]
    unrelated: float

    def median(self, parts: int) -> float:
        """Of the cosines."""
        return float(self.cosines[parts].median())

    def summary(self) -> str:
        """Medians, and the cosine of what does not belong together."""
        shown = ", ".join(f"{self.median(parts):.3f} from {parts} parts" for parts in self.cosines)
        return f"whole and mean of its parts: {shown}; unrelated wholes: {self.unrelated:.3f}"

    def plot(self, ax: Any) -> Any:
        """A violin per number of parts."""
        ax.violinplot([c.cpu().double().numpy() for c in self.cosines.values()], showmedians=True)
        ax.axhline(self.unrelated, color="black", linestyle="dashed")
        ax.set_xticks(range(1, len(self.cosines) + 1), [f"{parts} parts" for parts in self.cosines])
        ax.set(ylabel="cosine of whole and mean of parts")
        return ax


@torch.no_grad()
def composability(
    model: nn.Module, x: Tensor, part_counts: Sequence[int] = (2, 3, 4), size: int | None = None
) -> Composability:
    """How well means of parts' embeddings stand for their wholes.

    Args:
        model: an encoder of images to vectors.
        x: images [images, channels, height, width].
        part_counts: into how many parts they are cut: 2, 3 or 4.
        size: to which side wholes and parts are resized; the images' own by default.

    Raises:
        ValueError: another number of parts, or fewer than two images.
    """
    wrong = next((count for count in part_counts if count not in GRIDS), None)
    if wrong is not None or len(x) < 2:
        raise ValueError(f"part_counts must be of 2, 3 and 4, and images at least two, not {wrong} and {len(x)}")
    whole = embedded(model, x, size)
    found = {}
    for count in part_counts:
        each = torch.stack([embedded(model, part, size or x.shape[-1]) for part in cells(x, *GRIDS[count])])
        found[count] = cosine_similarity(each.mean(0), whole, dim=1)
    return Composability(found, unrelated(whole))


@dataclass(frozen=True)
class Decomposability(ProbeResult):
    """Cosines between a part's embedding and what is left of its whole without the other parts.

    Args:
        cosines: [parts, images].
        unrelated: mean cosine between the same part of different images.
    """

    cosines: Tensor
    unrelated: float

    def summary(self) -> str:
        """Median over parts and images."""
        return f"part and whole without the others: {float(self.cosines.median()):.3f}; unrelated: {self.unrelated:.3f}"

    def plot(self, ax: Any) -> Any:
        """A violin per part."""
        ax.violinplot(list(self.cosines.cpu().double().numpy()), showmedians=True)
        ax.axhline(self.unrelated, color="black", linestyle="dashed")
        ax.set(xlabel="part", ylabel="cosine of part and what is left of the whole")
        return ax


@torch.no_grad()
def decomposability(model: nn.Module, x: Tensor, parts: int = 4, size: int | None = None) -> Decomposability:
    """How well P times a whole's embedding, less those of the other parts, stands for a part.

    Args:
        model: an encoder of images to vectors.
        x: images [images, channels, height, width].
        parts: into how many they are cut: 2, 3 or 4.
        size: to which side wholes and parts are resized; the images' own by default.

    Raises:
        ValueError: another number of parts, or fewer than two images.
    """
    if parts not in GRIDS or len(x) < 2:
        raise ValueError(f"parts must be 2, 3 or 4, and images at least two, not {parts} and {len(x)}")
    whole = embedded(model, x, size)
    each = torch.stack([embedded(model, part, size or x.shape[-1]) for part in cells(x, *GRIDS[parts])])
    left = parts * whole - (each.sum(0) - each)
    spread = sum(unrelated(part) for part in each) / parts
    return Decomposability(cosine_similarity(left, each, dim=2), spread)


@dataclass(frozen=True)
class Localizability(ProbeResult):
    """Whether embeddings tell landmarks apart across images.

    Args:
        accuracy: share of patches whose nearest neighbour in another image is at the same landmark.
        silhouette: mean silhouette of landmarks by cosine distance, from -1 to 1.
        confusion: which landmark the neighbours are at, rows add up to 1 [landmarks, landmarks].
    """

    accuracy: float
    silhouette: float
    confusion: Tensor

    def summary(self) -> str:
        """Accuracy against chance, and the silhouette."""
        chance = 1 / len(self.confusion)
        same = f"{self.accuracy:.1%} of neighbours at the same landmark (chance {chance:.1%})"
        return f"{same}, silhouette {self.silhouette:.3f}"

    def plot(self, ax: Any) -> Any:
        """The confusion of landmarks."""
        ax.imshow(self.confusion.cpu(), vmin=0, vmax=1)
        ax.set(xlabel="landmark of the neighbour", ylabel="landmark")
        return ax


@torch.no_grad()
def localizability(
    model: nn.Module, x: Tensor, landmarks: Tensor, patch: int, size: int | None = None, references: int | None = None
) -> Localizability:
    """Retrieval of landmarks by embeddings of the patches around them.

    Args:
        model: an encoder of images to vectors.
        x: images [images, channels, height, width].
        landmarks: rows and columns in pixels [images, landmarks, 2].
        patch: side of a patch in pixels.
        size: to which side patches are resized; as they are by default.
        references: so many images at the beginning are an atlas: neighbours are looked for among them only, and the
            others are judged. By default every image is judged by all others.

    Raises:
        ValueError: landmarks outside of their images, fewer than two images or landmarks, or references that leave no
            image to judge.
    """
    if landmarks.dim() != 3 or landmarks.shape[0] != len(x) or landmarks.shape[2] != 2 or min(landmarks.shape[:2]) < 2:
        raise ValueError(f"landmarks must be [images, landmarks, 2], two of each at least, not {list(landmarks.shape)}")
    ends = torch.tensor(x.shape[2:], device=landmarks.device)
    outside = ((landmarks < 0) | (landmarks >= ends)).any(2).nonzero()
    if len(outside):
        image, mark = outside[0].tolist()
        raise ValueError(
            f"landmark {mark} of image {image} is outside of the image, at {landmarks[image, mark].tolist()}"
        )
    images, count = landmarks.shape[:2]
    if references is not None and not 0 < references < images:
        raise ValueError(f"references must leave an image to judge: from 1 to {images - 1}, not {references}")
    half = patch // 2
    padded = nn.functional.pad(x, [half] * 4, mode="replicate")
    corners = landmarks.round().long()
    patches = [
        padded[i, :, int(row) : int(row) + patch, int(column) : int(column) + patch]
        for i in range(images)
        for row, column in corners[i].tolist()
    ]
    unit = normalize(embedded(model, torch.stack(patches), size), dim=1)
    image, mark = (
        (torch.arange(images * count, device=x.device) // count),
        torch.arange(count, device=x.device).repeat(images),
    )
    judged = image >= (references or 0)
    cosine = (unit @ unit.mT).masked_fill(image[:, None] == image, -torch.inf)
    if references is not None:
        cosine = cosine.masked_fill(judged, -torch.inf)
    found, truth = mark[cosine[judged].argmax(1)], mark[judged]
    confusion = unit.new_zeros(count, count).index_put_((truth, found), unit.new_ones(()), accumulate=True)
    distance = 1 - unit @ unit.mT
    to_mark = torch.stack([distance[:, mark == k].mean(1) for k in range(count)], 1)
    own = to_mark.gather(1, mark[:, None]).squeeze(1) * images / (images - 1)
    other = to_mark.scatter(1, mark[:, None], torch.inf).min(1).values
    silhouette = ((other - own) / torch.maximum(own, other).clamp_min(1e-12)).mean()
    shares = confusion / (images - (references or 0))
    return Localizability(float((found == truth).double().mean()), float(silhouette), shares)


@dataclass(frozen=True)
class Symmetry(ProbeResult):
    """Cosines between embeddings of left halves and mirrored right halves.

    Args:
        cosines: of one image's two halves [images].
        unrelated: mean over halves of different images.
    """

    cosines: Tensor
    unrelated: float

    def summary(self) -> str:
        """Median, and the cosine of what does not belong together."""
        return f"left and mirrored right: {float(self.cosines.median()):.3f}; of different images: {self.unrelated:.3f}"

    def plot(self, ax: Any) -> Any:
        """A histogram."""
        ax.hist(self.cosines.cpu().double().numpy(), bins=30)
        ax.axvline(self.unrelated, color="black", linestyle="dashed")
        ax.set(xlabel="cosine of left and mirrored right half", ylabel="images")
        return ax


@torch.no_grad()
def symmetry(model: nn.Module, x: Tensor, size: int | None = None) -> Symmetry:
    """Whether mirrored structures are embedded alike.

    Args:
        model: an encoder of images to vectors.
        x: images [images, channels, height, width].
        size: to which side halves are resized; the images' own by default.

    Raises:
        ValueError: fewer than two images.
    """
    if len(x) < 2:
        raise ValueError(f"symmetry needs at least two images, not {len(x)}")
    left = embedded(model, cells(x, 1, 2)[0], size or x.shape[-1])
    right = embedded(model, cells(x.flip(3), 1, 2)[0], size or x.shape[-1])
    others = cosine_similarity(left, right.roll(1, 0), dim=1)
    return Symmetry(cosine_similarity(left, right, dim=1), float(others.mean()))


def embedded(model: nn.Module, x: Tensor, size: int | None, batch: int = 256) -> Tensor:
    """Embeddings of images, resized to squares of a side where one is given."""
    if size is not None:
        x = interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
    with evaluation(model):
        return torch.cat([call(model, part).flatten(1) for part in x.split(batch)])


def cells(x: Tensor, rows: int, columns: int) -> list[Tensor]:
    """The cells of a grid, row by row; what does not divide is left out at the far sides."""
    h, w = x.shape[2] // rows, x.shape[3] // columns
    return [x[:, :, r * h : (r + 1) * h, c * w : (c + 1) * w] for r in range(rows) for c in range(columns)]


def unrelated(vectors: Tensor) -> float:
    """Mean cosine between different rows."""
    unit = normalize(vectors, dim=1)
    n = len(unit)
    return float((unit.sum(0).square().sum() - n) / (n * (n - 1)))
