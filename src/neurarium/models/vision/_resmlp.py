"""ResMLP (Touvron et al., 2021): patches of an image mixed by linear layers, without attention or statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from neurarium.layers import Affine, CrossPatch, ResMLPBlock, TokenMean
from neurarium.training import copy_module

GAIN = 0.39
"""Standard deviation of the published weights (.02) times the root of their inputs (384)."""


class ClassPooling(nn.Module):
    """A class embedding that reads the patches by a linear combination, in the place of an average.

    Args:
        d_model: channels.
        num_patches: patches.
        depth: times that it reads.
        init_scale: as in `ResMLPBlock`.
    """

    def __init__(self, d_model: int, num_patches: int, depth: int = 2, init_scale: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, 1, d_model))
        nn.init.trunc_normal_(self.embedding, std=0.02)
        self.readers = nn.ModuleList(nn.Linear(num_patches + 1, 1) for _ in range(depth))
        self.norms = nn.ModuleList(Affine(d_model) for _ in range(depth))
        self.scales = nn.ModuleList(Affine(d_model, bias=False, init=init_scale) for _ in range(depth))
        self.blocks = nn.ModuleList(ResMLPBlock(d_model, 1, init_scale=init_scale, mixing="none") for _ in range(depth))

    def forward(self, x: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch channels"]:
        """One vector per image."""
        read = self.embedding.expand(len(x), -1, -1)
        for reader, norm, scale, block in zip(self.readers, self.norms, self.scales, self.blocks, strict=True):
            seen = norm(torch.cat([read, x], 1))
            read = block(read + scale(reader(seen.transpose(1, 2)).transpose(1, 2)))
        return read[:, 0]


class ResMLP(nn.Module):
    """Patches to vectors, blocks that mix patches and channels in turn, an average, a linear layer.

    The number of patches is built in; `resize_patches` makes a network for another size of image.

    Args:
        image_size: height and width of the images.
        patch_size: of the patches.
        in_channels: of the images.
        num_classes: outputs.
        dim: channels.
        depth: blocks.
        pooling: "mean", or "class" for `ClassPooling`.
        init_std: deviation of the initial weights; None for one of .39 / √inputs, which is the published one at 384
            channels and keeps its gain at others.
        init_scale: as in `ResMLPBlock`.
        drop_path: as in `ResMLPBlock`.
        norm: as in `ResMLPBlock`.
        mixing: as in `ResMLPBlock`.

    Raises:
        ValueError: the patches do not tile the image, or an unknown pooling.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        in_channels: int = 3,
        num_classes: int = 1000,
        dim: int = 384,
        depth: int = 12,
        pooling: Literal["mean", "class"] = "mean",
        init_std: float | None = 0.02,
        init_scale: float = 0.1,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = Affine,
        mixing: Literal["linear", "none"] | Callable[[], nn.Module] = "linear",
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image_size ({image_size}) must be a multiple of patch_size ({patch_size})")
        if pooling not in ("mean", "class"):
            raise ValueError(f"pooling must be 'mean' or 'class', not {pooling!r}")
        self.image_size = image_size
        patches = (image_size // patch_size) ** 2
        self.embed = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.blocks = nn.Sequential(
            *(
                ResMLPBlock(dim, patches, init_scale=init_scale, drop_path=drop_path, norm=norm, mixing=mixing)
                for _ in range(depth)
            )
        )
        self.norm = norm(dim)
        self.pool: nn.Module = TokenMean() if pooling == "mean" else ClassPooling(dim, patches, init_scale=init_scale)
        self.head = nn.Linear(dim, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Linear, CrossPatch)):
                std = GAIN / math.sqrt(module.weight.shape[1]) if init_std is None else init_std
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits.

        Raises:
            ValueError: the images are of another size than the network was made for.
        """
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"the network mixes the patches of {self.image_size} x {self.image_size} images, not of "
                f"{x.shape[2]} x {x.shape[3]}; resize_patches makes one for another size"
            )
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.pool(self.norm(self.blocks(tokens))))


def resmlp_s12(**options: Any) -> ResMLP:
    """ResMLP-S12 for images of 224 x 224; ``options`` as in `ResMLP`."""
    return ResMLP(224, 16, **{"depth": 12, "init_scale": 0.1} | options)


def resmlp_s24(**options: Any) -> ResMLP:
    """ResMLP-S24."""
    return ResMLP(224, 16, **{"depth": 24, "init_scale": 1e-5} | options)


def resmlp_s36(**options: Any) -> ResMLP:
    """ResMLP-S36."""
    return ResMLP(224, 16, **{"depth": 36, "init_scale": 1e-6} | options)


def resmlp_b24(**options: Any) -> ResMLP:
    """ResMLP-B24 with patches of 8 x 8."""
    return ResMLP(224, 8, **{"dim": 768, "depth": 24, "init_scale": 1e-6} | options)


@torch.no_grad()
def resize_patches(model: ResMLP, image_size: int) -> ResMLP:
    """A copy for images of another size: each cross-patch matrix is read bilinearly in both patch grids.

    Rows keep their sums, so that a patch still reads as much in all.

    Args:
        model: with an average as its pooling.
        image_size: height and width; a multiple of the patch size.

    Raises:
        ValueError: the patches do not tile the image, or the network pools by a class embedding.
    """
    patch = model.embed.kernel_size[0]
    if image_size % patch or not isinstance(model.pool, TokenMean):
        raise ValueError(f"image_size must be a multiple of {patch}, and the pooling an average over patches")
    resized = copy_module(model)
    resized.image_size = image_size
    before, after = model.image_size // patch, image_size // patch
    for module in resized.modules():
        if isinstance(module, CrossPatch):
            grid = module.weight.reshape(before**2, 1, before, before)
            read = interpolate(grid, (after, after), mode="bilinear", align_corners=False) * (before / after) ** 2
            written = read.reshape(1, before, before, after**2).permute(0, 3, 1, 2)
            written = interpolate(written, (after, after), mode="bilinear", align_corners=False)
            module.weight = nn.Parameter(written[0].flatten(1).T.contiguous())
            for name in ("bias", "shift"):
                old = getattr(module, name)
                if old is not None:
                    maps = old.reshape(before, before, -1).permute(2, 0, 1)[None]
                    maps = interpolate(maps, (after, after), mode="bilinear", align_corners=False)
                    setattr(module, name, nn.Parameter(maps[0].flatten(1).T.reshape(after**2, *old.shape[1:])))
    return resized


_BLOCK = {
    "norm1.alpha": "0.branch.0.weight", "norm1.beta": "0.branch.0.bias", "attn.weight": "0.branch.1.weight",
    "attn.bias": "0.branch.1.bias", "gamma_1": "0.branch.2.weight", "norm2.alpha": "1.branch.0.weight",
    "norm2.beta": "1.branch.0.bias", "mlp.fc1.weight": "1.branch.1.weight", "mlp.fc1.bias": "1.branch.1.bias",
    "mlp.fc2.weight": "1.branch.3.weight", "mlp.fc2.bias": "1.branch.3.bias", "gamma_2": "1.branch.4.weight",
}  # fmt: skip
_OUTSIDE = {
    "patch_embed.proj.weight": "embed.weight", "patch_embed.proj.bias": "embed.bias", "norm.alpha": "norm.weight",
    "norm.beta": "norm.bias", "head.weight": "head.weight", "head.bias": "head.bias",
}  # fmt: skip
_TIMM = {
    "stem.proj": "patch_embed.proj", "linear_tokens": "attn", "mlp_channels": "mlp", "ls1": "gamma_1", "ls2": "gamma_2",
}  # fmt: skip


@torch.no_grad()
def load_released_resmlp(model: ResMLP, state: Mapping[str, Tensor]) -> ResMLP:
    """Fill a network with the authors' released weights, or timm's.

    Args:
        model: of the same size, in place.
        state: the ``state_dict`` that was released.

    Returns:
        The model.

    Raises:
        ValueError: a tensor is missing, unknown or of another size.
    """
    own = model.state_dict()
    filled = set()
    for name, tensor in state.items():
        usual = name
        for timm, released in _TIMM.items():
            usual = usual.replace(timm, released)
        first, index, rest = (usual.split(".", 2) + ["", ""])[:3]
        target = f"blocks.{index}.{_BLOCK.get(rest, rest)}" if first == "blocks" else _OUTSIDE.get(usual, usual)
        if target not in own or own[target].numel() != tensor.numel():
            raise ValueError(f"the weights' {name} {list(tensor.shape)} has no place in this network")
        own[target].copy_(tensor.reshape(own[target].shape))
        filled.add(target)
    missing = own.keys() - filled
    if missing:
        raise ValueError(f"the weights lack {sorted(missing)[0]} and {len(missing) - 1} others")
    return model
