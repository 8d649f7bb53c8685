"""Direct feedback alignment: every block is trained with a fixed random projection of the output error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neurarium.learning._rule import LearningRule, Loss
from neurarium.learning.cutting._blocks import Blocks, Cut, backward_all, cut_at, find_blocks
from neurarium.learning.cutting._first_pass import check_cuts, check_separable
from neurarium.training import call, graph_parameters


class DirectFeedbackAlignment(LearningRule):
    """δa_l = B_l e for every hidden block, e the error at the output (Nøkland, 2016; Launay et al., 2020, section 2).

    Inside a block its own backward pass turns δa_l into parameter gradients; the last block gets the true gradient; no
    gradient leaves a block downwards, and the blocks' backward passes do not wait for each other.

    The rule wants its own hyper-parameters (section 3): a lower learning rate than backpropagation's, little dropout
    and weight decay, Adam with beta2 = 0.999, wide layers.

    Args:
        model: any module with at least one block below its output.
        loss: ``loss(output, target) -> scalar``; a sum or mean over examples.
        blocks: see `find_blocks`; the feedback enters at each block's output, best behind its nonlinearity.
        feedback: ``"shared"``: all blocks use the first columns of one matrix (the paper's code); ``"independent"``:
            each has columns of its own.
        distribution: entries uniform on [-1, 1) or standard normal.
        normalize: divide the projection by the square root of the largest block's size.
        batch_dims: dimensions that are not projected: ``(0,)`` for one error per example, ``(0, 1)`` for one per token.
            Where a block has more positions than the output, the projection is repeated over them and divided by the
            square root of their number.
        error_at: ``"output"``, or the name of a module: the error is taken at its output, and what comes after it
            has the true gradient (the last hidden state of a language model, section 3.4).
        generator: source of the feedback, on the CPU; torch's own by default. The matrix is drawn at the first batch,
            when the sizes are known, and is a buffer. Under `torch.distributed` all ranks take that of rank 0.

    Raises:
        ValueError: no block found, or an argument out of range; at the first batch: the model has no hidden block, a
            tensor from below a cut is used above it, or the loss ties examples together.
        TypeError: the model's output is not one floating-point tensor.
    """

    slug: ClassVar[str] = "dfa"
    learning_rate: ClassVar[float] = 5e-4
    feedback_matrix: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        blocks: Blocks = None,
        feedback: Literal["shared", "independent"] = "shared",
        distribution: Literal["uniform", "gaussian"] = "uniform",
        normalize: bool = True,
        batch_dims: Sequence[int] = (0,),
        error_at: str = "output",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, loss)
        for name, value, choices in (
            ("feedback", feedback, ("shared", "independent")),
            ("distribution", distribution, ("uniform", "gaussian")),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        self.batch_dims = tuple(batch_dims)
        if not self.batch_dims or min(self.batch_dims) < 0 or len(set(self.batch_dims)) < len(self.batch_dims):
            raise ValueError(f"batch_dims must be different dimensions counted from 0, not {batch_dims!r}")
        if error_at != "output" and error_at not in dict(model.named_modules()):
            raise ValueError(f"error_at: the model has no module named {error_at!r}")
        self.points = [name for name, _ in find_blocks(model, blocks) if name != error_at]
        self.feedback, self.distribution, self.normalize = feedback, distribution, normalize
        self.error_at, self.generator = error_at, generator
        self.register_buffer("feedback_matrix", None)
        self._checked = False

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradients of all blocks; returns the detached loss."""
        hidden, end, leaf, predicted = self._forward(x)
        loss = self.loss(predicted, y)
        if not self._checked:
            self._check([cut.output for cut in hidden], end, leaf, predicted, loss)
        loss.backward()
        if leaf.grad is None:
            raise ValueError("the loss does not depend on the place where the error is taken")
        signals = self._signals(leaf.grad, [cut.output for cut in hidden])
        ends = [_End.apply(cut.output, signal) for cut, signal in zip(hidden, signals, strict=True)]
        del predicted, hidden
        # one block after the other, top down, so that each block's activations are freed before the next one's turn
        backward_all([end], [leaf.grad])
        del end, leaf
        while ends:
            backward_all([ends.pop()], [None])
        return loss.detach()

    def signals(self, x: Any, y: Tensor) -> dict[str, Tensor]:
        """What each hidden block would be told, δa_l by name; ``.grad`` stays as it is.

        Raises:
            ValueError: a block is called more than once.
        """
        hidden, _, leaf, predicted = self._forward(x)
        (error,) = torch.autograd.grad(self.loss(predicted, y), leaf)
        names = {self.model.get_submodule(name): name for name in self.points}
        if len({cut.module for cut in hidden}) < len(hidden):
            raise ValueError("a block is called more than once in a pass, so its signal has no single name")
        told = self._signals(error, [cut.output for cut in hidden])
        return {names[cut.module]: signal() for cut, signal in zip(hidden, told, strict=True)}

    def _forward(self, x: Any) -> tuple[list[Cut], Tensor, Tensor, Tensor]:
        """A pass cut at every hidden block.

        Returns:
            The cuts; the end of the last block's graph; the leaf at which the error is read; the prediction above it.
        """
        watched = [] if self.error_at == "output" else [self.model.get_submodule(self.error_at)]
        points = [self.model.get_submodule(name) for name in self.points]
        with cut_at(points) as hidden, cut_at(watched, watch=True) as places:
            predicted = call(self.model, x)
        if not isinstance(predicted, Tensor) or not predicted.is_floating_point():
            kind = predicted.dtype if isinstance(predicted, Tensor) else type(predicted).__name__
            raise TypeError(f"the model must return one floating-point tensor to take an error at, not {kind}")
        if not watched:
            end, leaf = predicted, predicted.detach().requires_grad_()
            predicted = leaf
        elif len(places) == 1:
            end, leaf = places[0].output, places[0].handed
        else:
            raise ValueError(f"error_at: {self.error_at!r} must be called once in a pass, not {len(places)} times")
        if hidden and end is hidden[-1].handed:  # the last block ends where the error is: it has the true gradient
            end = hidden.pop().output
        if not hidden:
            raise ValueError(
                f"{type(self.model).__name__} has no block below the place of the error; name them with blocks=[...]"
            )
        return hidden, end, leaf, predicted

    def _check(self, outputs: list[Tensor], end: Tensor, leaf: Tensor, predicted: Tensor, loss: Tensor) -> None:
        if any(leaf in graph_parameters(output) for output in outputs):
            raise ValueError(f"some of the blocks {', '.join(self.points)} come after error_at={self.error_at!r}")
        check_cuts(self.model, [*outputs, end], self.points)
        check_separable(loss, predicted, self._present(predicted))
        self._checked = True

    def _signals(self, error: Tensor, outputs: Sequence[Tensor]) -> list[Callable[[], Tensor]]:
        """B_l e for every block, each computed when it is asked for, so that one of them is alive at a time."""
        present = self._present(error)
        rows = _front(error, present)
        rows = rows.reshape(math.prod(rows.shape[: len(present)]), math.prod(rows.shape[len(present) :]))
        shapes = [_front(output, self._present(output)).shape for output in outputs]
        counts = [len(self._present(output)) for output in outputs]
        sizes = [math.prod(shape[count:]) for shape, count in zip(shapes, counts, strict=True)]
        matrix = self._matrix(rows.shape[1], sizes)
        rows = rows.to(matrix.dtype) * (1 / math.sqrt(max(sizes)) if self.normalize else 1.0)
        starts = [sum(sizes[:i]) if self.feedback == "independent" else 0 for i in range(len(sizes))]
        told: list[Callable[[], Tensor]] = []
        for output, shape, count, size, start in zip(outputs, shapes, counts, sizes, starts, strict=True):
            repeat = _repeats(math.prod(shape[:count]), len(rows))
            columns = matrix[:, start : start + size]
            told.append(partial(_signal, rows, columns, repeat, shape, tuple(self._present(output)), output.dtype))
        return told

    def _present(self, tensor: Tensor) -> list[int]:
        """Batch dimensions that a tensor has, where at least one dimension is left for features."""
        return [dim for dim in self.batch_dims if dim < tensor.dim()][: max(tensor.dim() - 1, 1)]

    def _matrix(self, rows: int, sizes: Sequence[int]) -> Tensor:
        """The feedback, drawn when it is first needed."""
        columns = sum(sizes) if self.feedback == "independent" else max(sizes)
        if self.feedback_matrix is None:
            like = next(p for p in self.model.parameters() if p.is_floating_point())
            self.feedback_matrix = self._draw(rows, columns).to(like.device, like.dtype)
            if dist.is_available() and dist.is_initialized():
                dist.broadcast(self.feedback_matrix, src=0)
        if self.feedback_matrix.shape != (rows, columns):
            raise ValueError(
                f"the feedback matrix is {tuple(self.feedback_matrix.shape)}, but this batch needs {(rows, columns)}: "
                "sizes beside batch_dims must not change from batch to batch"
            )
        return self.feedback_matrix

    def _draw(self, rows: int, columns: int) -> Tensor:
        if self.distribution == "gaussian":
            return torch.randn(rows, columns, generator=self.generator)
        return 2 * torch.rand(rows, columns, generator=self.generator) - 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take the matrix of a rule that has seen a batch into one that has not."""
        saved = state_dict.get(f"{prefix}feedback_matrix")
        if isinstance(saved, Tensor) and self.feedback_matrix is None:
            self.feedback_matrix = torch.empty_like(saved, device=next(self.model.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _front(tensor: Tensor, dims: Sequence[int]) -> Tensor:
    return tensor.movedim(list(dims), list(range(len(dims))))


def _repeats(positions: int, errors: int) -> int:
    """How many positions of a block one error stands for."""
    repeat, rest = divmod(positions, errors)
    if rest or repeat < 1:
        raise ValueError(
            f"a block gives {positions} positions for {errors} errors: choose batch_dims so that the output's "
            "positions are the block's, or each stands for equally many of them"
        )
    return repeat


def _signal(
    rows: Tensor, columns: Tensor, repeat: int, shape: Sequence[int], dims: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """One block's B_l e in the shape of its output: a row per error, repeated over the positions it stands for."""
    signal = rows @ columns
    if repeat > 1:
        signal = signal.repeat_interleave(repeat, 0) / math.sqrt(repeat)
    return signal.reshape(shape).movedim(list(range(len(dims))), list(dims)).to(dtype)


class _End(torch.autograd.Function):
    """Closes a block's graph. Its backward pass makes the signal, which, like the output, nobody else then holds."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, signal: Callable[[], Tensor]) -> Tensor:
        ctx.signal = signal
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None]:
        return ctx.signal(), None


class Shallow(DirectFeedbackAlignment):
    """Only the last block is trained: direct feedback alignment with zero feedback, the control of every local rule.

    Takes the arguments of `DirectFeedbackAlignment`; those about the feedback change nothing.
    """

    slug: ClassVar[str] = "shallow"
    learning_rate: ClassVar[float] = 1e-2

    def _draw(self, rows: int, columns: int) -> Tensor:
        return torch.zeros(rows, columns)
