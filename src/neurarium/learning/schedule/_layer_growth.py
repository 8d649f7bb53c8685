"""Growing a deep network a block at a time, all earlier blocks frozen (Bochkov, 2025, arXiv 2507.07129)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from neurarium.layers._linear_maps import linear_maps
from neurarium.layers._low_rank import LowRank
from neurarium.training import find_module


class LayerGrowth:
    """Holds blocks of a model back and lets them in, stage by stage; only the newest ones and the heads are trained.

    At once the model has the blocks of stage 1, all of it trainable that was. `grow` freezes everything but the heads
    and appends the next blocks. Any learning rule trains the stages; frozen blocks at the bottom cost a forward pass
    and no backward one, and are put in evaluation mode, so that statistics stand still. Begin every stage with a new
    optimizer of `parameters`::

        growth = LayerGrowth(model, "layers")
        while True:
            optimizer = torch.optim.AdamW(growth.parameters(), 1e-3)
            fit(Backprop(model, cross_entropy), loader, optimizer)
            if growth.stage == growth.stages:
                break
            growth.grow()

    Args:
        model: a model that runs through a list of residual blocks; changed in place. A substrate that shall never be
            trained (an embedding) is frozen by you, with ``requires_grad_(False)``.
        blocks: dotted name of the `nn.ModuleList` or `nn.Sequential` of blocks.
        per_stage: blocks of a stage.
        heads: names of the modules that every stage trains: what stands behind the blocks.
        low_rank_from: the stage from which low-rank terms on the weights of all earlier blocks are trained, too.
        rank: of these terms.
        generator: of the terms' first values.

    Raises:
        ValueError: there is no list of blocks at ``blocks``, no head of a name, or a number out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: str = "layers",
        per_stage: int = 1,
        heads: Sequence[str] = ("norm", "head"),
        low_rank_from: int | None = None,
        rank: int = 8,
        generator: torch.Generator | None = None,
    ) -> None:
        container = find_module(model, blocks, "blocks")
        if not isinstance(container, nn.ModuleList | nn.Sequential) or len(container) < 2:
            raise ValueError(f"blocks must name a list of two blocks or more; {blocks!r} is {type(container).__name__}")
        if not 1 <= per_stage < len(container):
            raise ValueError(f"per_stage must be between 1 and {len(container) - 1}, not {per_stage}")
        if rank < 1 or (low_rank_from is not None and low_rank_from < 2):
            raise ValueError(f"rank must be at least 1 and low_rank_from at least 2, not {rank} and {low_rank_from}")
        self.model = model
        self.per_stage = per_stage
        self.low_rank_from = low_rank_from
        self.rank = rank
        self.generator = generator
        self.stage = 1
        self.stages = -(-len(container) // per_stage)
        self._active = container
        self._waiting = [container[i] for i in range(per_stage, len(container))]
        self._heads = [find_module(model, name, "heads") for name in heads]
        self._head_parameters = [p for head in self._heads for p in head.parameters() if p.requires_grad]
        del container[per_stage:]

    def parameters(self) -> Iterator[nn.Parameter]:
        """What this stage trains, and nothing else."""
        return (p for p in self.model.parameters() if p.requires_grad)

    @property
    def trainable_count(self) -> int:
        """Numbers that this stage trains."""
        return sum(p.numel() for p in self.parameters())

    def grow(self) -> None:
        """Freeze what is there, but for the heads, and append the next blocks.

        Raises:
            ValueError: no block is left.
        """
        if not self._waiting:
            raise ValueError(f"all blocks are in the model already: stage {self.stage} is the last")
        frozen = list(self._active)
        for p in self.model.parameters():
            p.requires_grad_(False)
            p.grad = None
        for block in frozen:
            block.eval()
        for p in self._head_parameters:
            p.requires_grad_(True)
        self.stage += 1
        if self.low_rank_from is not None and self.stage >= self.low_rank_from:
            self._adapt(frozen)
        for block in self._waiting[: self.per_stage]:
            self._active.append(block.train(self.model.training))
        del self._waiting[: self.per_stage]

    def state_dict(self) -> dict[str, int]:
        """The stage; save it beside the model's own state."""
        return {"stage": self.stage}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Grow to the saved stage, and then load the model's state.

        Raises:
            ValueError: the stage lies behind, or does not exist.
        """
        if not self.stage <= state["stage"] <= self.stages:
            raise ValueError(f"the saved stage is {state['stage']}, but this is at stage {self.stage} of {self.stages}")
        while self.stage < state["stage"]:
            self.grow()

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer that is not of this stage.

        Raises:
            ValueError: it holds a frozen parameter, as one from an earlier stage does.
        """
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        names = [name for name, p in self.model.named_parameters() if id(p) in held and not p.requires_grad]
        if names:
            raise ValueError(
                f"optimizer holds {len(names)} frozen parameters ({names[0]} ...): make one for each stage"
            )

    def _adapt(self, frozen: Sequence[nn.Module]) -> None:
        """Low-rank terms on blocks that have none yet, and all such terms trainable."""
        for block in frozen:
            for m in linear_maps(block).values():
                if not parametrize.is_parametrized(m.owner, m.weight_name):
                    term = LowRank(m.weight, self.rank, 2.0 * self.rank, self.generator)
                    parametrize.register_parametrization(m.owner, m.weight_name, term)
            for part in block.modules():
                if isinstance(part, LowRank):
                    part.requires_grad_(True)
