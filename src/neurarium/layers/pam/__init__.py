"""Piecewise affine operations: networks computed and trained without multiplications (Kosson & Jaggi, 2023).

A float's bits, read as an integer, approximate its logarithm; adding them as integers approximates the product. From
this one operation and its inverse come exponentials, logarithms and powers, and from those all that a transformer or
a convolutional network needs.

    from neurarium.layers import pam
    y = pam.linear(x, weight, bias)

Forward and backward passes are bit-exact emulations on ordinary hardware. They are for studying such training, not
for speed.
"""

from neurarium.layers.pam._composite import (
    attention,
    batch_norm,
    cross_entropy,
    dropout,
    gelu,
    layer_norm,
    log_softmax,
    mean,
    softmax,
)  # fmt: skip
from neurarium.layers.pam._elementary import div, exp, exp2, log, log2, mul, pow, sqrt
from neurarium.layers.pam._sums import conv2d, linear, matmul

__all__ = [
    "attention", "batch_norm", "conv2d", "cross_entropy", "div", "dropout", "exp", "exp2", "gelu", "layer_norm",
    "linear", "log", "log2", "log_softmax", "matmul", "mean", "mul", "pow", "softmax", "sqrt",
]  # fmt: skip
