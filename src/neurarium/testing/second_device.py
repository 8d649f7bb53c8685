"""A second device made of CPU memory, so that a machine without a GPU finds tensors that were left on the wrong one.

After ``register()`` torch knows a device called `NAME`: ``model.to(NAME)``, ``torch.randn(3, device=NAME)``.
The CPU computes its tensors, but an operation that mixes them with the CPU's own is refused as CUDA would refuse it, a
generator of the CPU's does not draw for it, ``.numpy()`` asks for ``.cpu()``, and its random state is its own. It
stands on torch's Python backend (``PrivateUse1``), of which a process can have one.

What it cannot show: autocast (which does nothing on it), pinned memory, streams, ``out=`` of another size.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from neurarium.testing._fused_cells import gru_cell, gru_cell_backward, lstm_cell, lstm_cell_backward

NAME = "second_device"  # torch gives tensors and modules attributes of this name: one that no network uses
_INDEXING = ("aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_PACKING = "aten::_pack_padded_sequence"
_ON_HOST = {(_PACKING, "lengths"), (f"{_PACKING}_backward", "batch_sizes")}
"""What every device wants on the CPU: the lengths of packed sequences."""
_SYNCHRONISING = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::is_nonzero",
)
_NO_GENERATOR = ("aten::native_dropout",)  # draws, but takes no generator: the CPU's is lent to it
_CELLS: dict[str, Callable[..., Any]] = {  # the CPU has no such kernels
    "aten::_thnn_fused_lstm_cell": lstm_cell, "aten::_thnn_fused_lstm_cell_backward_impl": lstm_cell_backward,
    "aten::_thnn_fused_gru_cell": gru_cell, "aten::_thnn_fused_gru_cell_backward": gru_cell_backward,
}  # fmt: skip
_libraries: list[torch.library.Library] = []
_generator = torch.Generator()
_synchronisations = 0


class SecondTensor(torch.Tensor):
    """A tensor on the second device; `raw` is the CPU tensor that holds its numbers."""

    raw: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: Tensor) -> SecondTensor:
        """Wrap a CPU tensor."""
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype,
            layout=raw.layout, device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip
        tensor.raw = raw
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, *args, **(kwargs or {}))

    @property
    def data(self) -> SecondTensor:
        """The numbers without their history."""
        return SecondTensor(self.raw.detach())

    @data.setter
    def data(self, value: Tensor) -> None:
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.raw = value.raw if isinstance(value, SecondTensor) else value

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            if not self.is_leaf:
                raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")
            new: Tensor = SecondTensor(self.raw.detach().clone())
            if getattr(self, "_is_param", False):
                new = nn.Parameter(new, self.requires_grad)
            else:
                new.requires_grad_(self.requires_grad)
            if self.grad is not None:
                new.grad = self.grad.__deepcopy__(memo)
            memo[id(self)] = new
        return memo[id(self)]

    def numpy(self, *, force: bool = False) -> Any:
        """Refused, as every device but the CPU refuses it."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        """The numbers as Python's."""
        _count_synchronisation()
        return self.raw.tolist()

    def data_ptr(self) -> int:
        """The address of the numbers."""
        return self.raw.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """The memory that holds the numbers."""
        return self.raw.untyped_storage()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{self.raw!r} on {NAME}"


class _SecondModule:
    """What torch wants of ``torch.second``: the count of devices, and their random state."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed(self, seed: int) -> None:
        _generator.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        _generator.manual_seed(seed)

    def get_rng_state(self, device: Any = NAME) -> Tensor:
        return _generator.get_state()

    def set_rng_state(self, state: Tensor, device: Any = NAME) -> None:
        _generator.set_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def register() -> str:
    """Make the device known to torch, once for the process; returns its name.

    Call it before the process's first backward pass: torch's engine makes a queue for each device at that moment.

    Raises:
        RuntimeError: a backward pass was made before; or another backend holds torch's one place for such a device.
    """
    if _libraries:
        return NAME
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=_SecondModule())
    every, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _libraries.extend((every, aten))
    every.fallback(_run, "PrivateUse1")
    kernels = {
        "empty.memory_format": _empty, "empty_strided": _empty_strided, "_copy_from": _copy_from,
        "arange": _factory(torch.arange), "arange.start": _factory(torch.arange),
        "arange.start_step": _factory(torch.arange), "linspace": _factory(torch.linspace),
        "logspace": _factory(torch.logspace), "eye": _factory(torch.eye), "eye.m": _factory(torch.eye),
    }  # fmt: skip
    for name, kernel in kernels.items():
        aten.impl(name, kernel, "PrivateUse1")
    try:
        torch.ones(1, device=NAME, requires_grad=True).sum().backward()
    except RuntimeError:
        raise RuntimeError("register the second device before the first backward pass of the process") from None
    return NAME


@contextlib.contextmanager
def counted_synchronisations() -> Iterator[Callable[[], int]]:
    """Count how often the host waits for the device (``float(x)``, ``.cpu()``, a mask as an index) inside the block."""
    start = _synchronisations
    yield lambda: _synchronisations - start


def _count_synchronisation() -> None:
    global _synchronisations
    _synchronisations += 1


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute on the CPU what one operation asks of the second device."""
    name = func._schema.name
    arguments = {schema.name: value for schema, value in zip(func._schema.arguments, args)} | kwargs
    written = [s.name for s in func._schema.arguments if s.alias_info is not None and s.alias_info.is_write]
    _refuse_mixtures(name, arguments, written)
    to_cpu = name == "aten::_to_copy" and kwargs.get("device") is not None and kwargs["device"].type == "cpu"
    masks = name in _INDEXING and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in tree_leaves(args[1]))
    if to_cpu or masks or name in _SYNCHRONISING:
        _count_synchronisation()
    if name in _CELLS:
        return _CELLS[name](*args, **kwargs)
    if name == "aten::copy_" and _same_memory(args[0], args[1]):
        return args[0]
    draws = any(s.name == "generator" for s in func._schema.arguments)
    if draws and kwargs.get("generator") is None and _is_random(name):
        kwargs = {**kwargs, "generator": _generator}
    with warnings.catch_warnings(), _lent_generator() if name in _NO_GENERATOR else contextlib.nullcontext():
        warnings.simplefilter("ignore")
        output = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    if torch.Tag.inplace_view in func.tags:
        _reshape_in_place(func, args, kwargs)
    if written:
        for argument in written:
            _same_shape(name, arguments.get(argument))
        if len(func._schema.returns):
            changed = [arguments[argument] for argument in written if argument in arguments]
            return changed[0] if len(changed) == 1 else tuple(changed)
    if name == _PACKING:
        return _wrap(output[0]), output[1]  # so many sequences go on at each step: for the CPU
    return output if to_cpu else tree_map(_wrap, output)


def _refuse_mixtures(name: str, arguments: dict[str, Any], written: list[str]) -> None:
    if name in ("aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::record_stream"):
        return
    generator = arguments.get("generator")
    if generator is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{generator.device}'")
    if not any(isinstance(leaf, SecondTensor) for leaf in tree_leaves(list(arguments.values()))):
        return
    for argument, value in arguments.items():
        if name in _INDEXING and argument == "indices" and isinstance(arguments.get("self"), SecondTensor):
            continue  # an index may lie on the CPU
        if (name, argument) in _ON_HOST:
            continue
        for leaf in tree_leaves(value):
            if isinstance(leaf, Tensor) and not isinstance(leaf, SecondTensor) and (leaf.dim() or argument in written):
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and "
                    f"cpu! (argument {argument} of {name})"
                )


def _is_random(name: str) -> bool:
    return not name.endswith(("_backward", "scaled_dot_product_attention"))


@contextlib.contextmanager
def _lent_generator() -> Iterator[None]:
    cpu = torch.get_rng_state()
    torch.set_rng_state(_generator.get_state())
    try:
        yield
    finally:
        _generator.set_state(torch.get_rng_state())
        torch.set_rng_state(cpu)


def _same_memory(target: Any, source: Any) -> bool:
    """Whether a copy would write what is there; views of one tensor do not know that they share the CPU's memory."""
    a, b = _unwrap(target), _unwrap(source)
    plain = a.is_contiguous() and b.is_contiguous() and a.numel() == b.numel()
    return a.data_ptr() == b.data_ptr() and a.dtype == b.dtype and (plain or a.stride() == b.stride())


def _reshape_in_place(func: Any, args: Any, kwargs: Any) -> None:
    """Give the wrapper the shape that its CPU tensor has got (``transpose_``, ``squeeze_`` ...)."""
    with torch.utils._mode_utils.no_dispatch():
        before = torch._C._meta_in_tls_dispatch_include()
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            func(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


def _same_shape(name: str, value: Any) -> None:
    for leaf in tree_leaves(value):
        if isinstance(leaf, SecondTensor) and leaf.shape != leaf.raw.shape:
            raise NotImplementedError(
                f"{name} changes the shape of a tensor in place, which the second device cannot show"
            )


def _wrap(value: Any) -> Any:
    return SecondTensor(value) if type(value) in (torch.Tensor, nn.Parameter) else value


def _unwrap(value: Any) -> Any:
    if isinstance(value, SecondTensor):
        return value.raw
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _empty(
    size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
    memory_format: Any = None,
) -> Tensor:  # fmt: skip
    return SecondTensor(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> Tensor:
    return SecondTensor(torch.empty_strided(size, stride, dtype=dtype))


def _factory(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """For what torch makes by growing an empty tensor in place."""

    def kernel(*args: Any, device: Any = None, pin_memory: Any = None, layout: Any = None, **kwargs: Any) -> Tensor:
        return SecondTensor(make(*args, **kwargs))

    return kernel


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    if not isinstance(target, SecondTensor):
        _count_synchronisation()
    _unwrap(target).copy_(_unwrap(source))
    return target
