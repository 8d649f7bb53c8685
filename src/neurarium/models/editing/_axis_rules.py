"""How torch functions carry groups of units from their inputs to their outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from neurarium.models.editing._axis_groups import Axes, Axis, AxisGroups

Rule = Callable[[AxisGroups, str, tuple[Any, ...], dict[str, Any], Any], None]

SAME = frozenset({
    "relu", "relu_", "relu6", "gelu", "silu", "mish", "elu", "selu", "celu", "leaky_relu", "leaky_relu_",
    "softplus", "hardtanh", "hardswish", "hardsigmoid", "tanh", "tanh_", "sigmoid", "sigmoid_", "logsigmoid",
    "softsign", "softmax", "log_softmax", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "feature_alpha_dropout", "contiguous", "clone", "detach", "to", "float", "double", "half", "type_as", "exp",
    "log", "sqrt", "rsqrt", "abs", "neg", "__neg__", "square", "sin", "cos", "clamp", "clamp_min", "erf",
    "reciprocal", "normalize", "requires_grad_", "pow", "__pow__", "instance_norm", "zeros_like",
})  # fmt: skip
BINARY = frozenset({
    "add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__", "mul",
    "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__", "__itruediv__", "maximum", "minimum",
    "where", "lerp", "addcmul", "prelu",
})  # fmt: skip
POOLS = frozenset(
    f"{kind}_pool{n}d{end}" for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp") for n in (1, 2, 3)
    for end in ("", "_with_indices")
) | {"boolean_dispatch", "interpolate", "upsample", "pad"}  # fmt: skip


def propagate(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Give the output of a torch function its axes; unknown functions keep all the units they touch."""
    if not isinstance(output, (Tensor, tuple, list)) or name == "__get__":
        return  # shapes and flags
    rule = RULES.get(name)
    if rule is not None:
        rule(watch, name, args, kwargs, output)
    elif name in SAME:
        _unchanged(watch, name, args, kwargs, output)
    elif name in BINARY:
        _broadcast(watch, name, args, kwargs, output)
    elif name in POOLS:
        given = args[0] if args else kwargs["input"]
        result = output[0] if isinstance(output, (tuple, list)) else output
        before = watch.of(given)
        if name == "pad" and given.shape[1] != result.shape[1]:
            watch.fix_all(given, "pad adds channels to it")
        elif result.dim() == given.dim():
            watch.set(result, before[: 2 if given.dim() > 2 else 1] + (None,) * (given.dim() - 2))
    elif not isinstance(output, (tuple, list)) or any(isinstance(part, Tensor) for part in output):
        watch.fix_all([*args, *kwargs.values()], f"{name} may depend on its size")


def _unchanged(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    watch.set(output, watch.of(args[0] if args else kwargs["input"]))


def _linear(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    x, weight, bias = _arguments(args, kwargs, "input", "weight", "bias")
    layer, before = watch.layer(weight), watch.of(x)
    known = watch.axes.get(id(weight))
    out = known[0] if known else watch.new(weight.shape[0], layer)
    out = watch.weight(weight, (out, before[-1]), layer)[0]
    if bias is not None:
        watch.weight(bias, (out,), layer)
    watch.set(output, before[:-1] + (out,))


def _conv(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    transposed = "transpose" in name
    names = ["input", "weight", "bias", "stride", "padding"]
    names += ["output_padding", "groups"] if transposed else ["dilation", "groups"]
    x, weight, bias, *_, groups = _arguments(args, kwargs, *names)
    groups, units = groups or 1, output.shape[1]
    layer, before = watch.layer(weight), watch.of(x)
    space: Axes = (None,) * (weight.dim() - 2)
    if x.dim() < weight.dim():
        watch.fix_all(x, f"{layer} is given no batch dimension")
    elif groups == 1:
        known = watch.axes.get(id(weight))
        place = 1 if transposed else 0
        out = known[place] if known else watch.new(units, layer)
        sides = (before[1], out) if transposed else (out, before[1])
        out = watch.weight(weight, (*sides, *space), layer)[place]
    elif groups == x.shape[1] == units:
        out = watch.weight(weight, (before[1], None, *space), layer)[0]  # depthwise: a channel in is a channel out
        for index, _ in out or ():
            names_of = watch.layers[watch.root(index)]
            names_of += [layer] if layer not in names_of else []
    else:
        watch.fix(before[1], f"{layer} has {groups} groups")
        out = watch.new(units, layer, f"it has {groups} groups")
        watch.weight(weight, (out, None, *space), layer)
    if bias is not None and x.dim() == weight.dim():
        watch.weight(bias, (out,), layer)
    watch.set(output, (None, out, *space) if x.dim() == weight.dim() else (None,) * output.dim())


def _batch_norm(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    x, *vectors = _arguments(args, kwargs, "input", "running_mean", "running_var", "weight", "bias")
    for vector in vectors:
        if vector is not None:
            watch.weight(vector, (watch.of(x)[1],), watch.layer(vector))
    watch.set(output, watch.of(x))


def _layer_norm(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    x, shape, *vectors = _arguments(args, kwargs, "input", "normalized_shape", "weight", "bias")
    if len(shape) != 1:
        watch.fix_all(x, f"{name} is over several dimensions")
    for vector in vectors:
        if isinstance(vector, Tensor):
            watch.weight(vector, watch.of(x)[x.dim() - len(shape) :], watch.layer(vector))
    watch.set(output, watch.of(x))


def _embedding(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    tokens, weight = _arguments(args, kwargs, "input", "weight")
    known = watch.axes.get(id(weight))
    layer = watch.layer(weight)
    out = known[1] if known else watch.new(weight.shape[1], layer)
    watch.weight(weight, (None, out), layer)
    watch.set(output, (None,) * tokens.dim() + (out,))


def _attention(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    query, key, value, width, heads, weight, bias = _arguments(
        args, kwargs, "query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias"
    )
    out_weight, out_bias = args[11:13]
    inner = watch.of(query)[-1]
    for other in (key, value):
        inner = watch.tie(inner, watch.of(other)[-1], "attention") if other is not query else inner
    if weight is None or inner is None or len(inner) != 1 or inner[0][1] != 1:
        watch.fix_all([query, key, value], "an attention whose inputs differ in kind")
        watch.set(output[0], (None,) * output[0].dim())
        return
    for index, _ in inner:
        root = watch.root(index)
        watch.multiples[root] = math.lcm(watch.multiples[root], width // heads)
    layer = watch.layer(weight)
    watch.weight(weight, (inner * 3, inner), layer)
    watch.weight(out_weight, (inner, inner), layer)
    for vector, axis in ((bias, inner * 3), (out_bias, inner)):
        if vector is not None:
            watch.weight(vector, (axis,), layer)
    watch.set(output[0], (None,) * (output[0].dim() - 1) + (inner,))


def _broadcast(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    tensors = [value for value in [*args, *kwargs.values()] if isinstance(value, Tensor)]
    axes: list[Axis | None] = [None] * output.dim()
    seen = [False] * output.dim()
    for tensor in tensors:
        for place, (axis, size) in enumerate(zip(watch.of(tensor), tensor.shape), output.dim() - tensor.dim()):
            if size > 1:
                axes[place] = watch.tie(axes[place], axis, name) if seen[place] else axis
                seen[place] = True
    watch.set(output, tuple(axes))


def _flatten(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
    """Merging dimensions keeps units in front if theirs is the outermost; a literal size in a view keeps them all."""
    x = args[0]
    before, after = list(zip(watch.of(x), x.shape)), list(output.shape)
    sizes = args[1] if len(args) == 2 and isinstance(args[1], (tuple, list)) else args[1:]
    axes: list[Axis | None] = []
    for place, size in enumerate(after):
        taken = [before.pop(0)] if before else []
        while before and math.prod(s for _, s in taken) < size:
            taken.append(before.pop(0))
        axis = taken[0][0] if taken else None
        literal = name in ("view", "reshape") and place < len(sizes) and sizes[place] != -1 and len(taken) > 1
        if math.prod(s for _, s in taken) != size or literal or any(other is not None for other, _ in taken[1:]):
            watch.fix_all(x, f"{name} gives it a fixed shape")
            watch.set(output, (None,) * output.dim())
            return
        rest = math.prod(s for _, s in taken[1:])
        axes.append(tuple((i, r * rest) for i, r in axis) if axis else None)
    watch.set(output, tuple(axes))


def _cat(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
    tensors = args[0] if args else kwargs["tensors"]
    place = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % output.dim()
    axes: list[Axis | None] = list(watch.of(tensors[0]))
    joined: Axis = ()
    for number, tensor in enumerate(tensors):
        for other in range(output.dim()):
            if other != place and number:
                axes[other] = watch.tie(axes[other], watch.of(tensor)[other], name)
        joined += watch.of(tensor)[place] or watch.new(tensor.shape[place], "", "it is of fixed size")
    axes[place] = joined if any(watch.of(tensor)[place] for tensor in tensors) else None
    watch.set(output, tuple(axes))


def _reduce(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    x, dims, keepdim = _arguments(args, kwargs, "input", "dim", "keepdim")
    if not isinstance(output, Tensor):
        watch.fix_all(x, f"{name} may depend on its size")
        return
    every = range(x.dim()) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {d % x.dim() for d in every}
    axes = [None if d in gone else axis for d, axis in enumerate(watch.of(x)) if keepdim or d not in gone]
    watch.set(output, tuple(axes))


def _permute(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
    x = args[0]
    places = list(range(x.dim()))
    if name in ("transpose", "swapaxes"):
        a, b = args[1] % x.dim(), args[2] % x.dim()
        places[a], places[b] = places[b], places[a]
    else:
        places = [d % x.dim() for d in (args[1] if isinstance(args[1], (tuple, list)) else args[1:])]
    watch.set(output, tuple(watch.of(x)[d] for d in places))


def _squeeze(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
    kept = [axis for axis, size in zip(watch.of(args[0]), args[0].shape) if size > 1]
    axes = iter(kept)
    watch.set(output, tuple(next(axes) if size > 1 else None for size in output.shape))


def _index(watch: AxisGroups, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
    x, places = args[0], args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(not isinstance(p, (int, slice, type(None), type(...))) for p in places) or not isinstance(output, Tensor):
        watch.fix_all(x, "it is indexed by a tensor")
        return
    if ... in places:
        at = places.index(...)
        missing = x.dim() - sum(p is not None and p is not ... for p in places)
        places = places[:at] + (slice(None),) * missing + places[at + 1 :]
    before = list(watch.of(x))
    axes: list[Axis | None] = []
    for place in places:
        if place is None:
            axes.append(None)
            continue
        axis = before.pop(0)
        if isinstance(place, int) or place != slice(None):
            watch.fix(axis, "it is indexed")
            axis = None
        if not isinstance(place, int):
            axes.append(axis)
    watch.set(output, (*axes, *before))


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], *names: str) -> list[Any]:
    """Arguments by name, None where they are not given."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


RULES: dict[str, Rule] = {
    "linear": _linear,
    **{f"conv{n}d": _conv for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _conv for n in (1, 2, 3)},
    "batch_norm": _batch_norm, "layer_norm": _layer_norm, "rms_norm": _layer_norm,
    "embedding": _embedding, "multi_head_attention_forward": _attention,
    "flatten": _flatten, "view": _flatten, "reshape": _flatten, "unflatten": _flatten,
    "cat": _cat, "concat": _cat, "concatenate": _cat,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "logsumexp"), _reduce),
    **dict.fromkeys(("permute", "transpose", "swapaxes"), _permute),
    "squeeze": _squeeze, "unsqueeze": _squeeze, "__getitem__": _index,
}  # fmt: skip
