"""Convolutions in any number of dimensions, and what goes with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import as_array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.lax.operands import to_common_dtype
from funcgrad.lax.products import dot_general
from funcgrad.ops import conv as ops
from funcgrad.ops import shapes
from funcgrad.ops.conv import ConvDimensionNumbers
from funcgrad.ops.products import check_precision
from funcgrad.ops.window_geometry import as_pads, as_sizes, dilated, padtype_to_pads, windows

__all__ = [
    "ConvDimensionNumbers",
    "ConvGeneralDilatedDimensionNumbers",
    "conv",
    "conv_dimension_numbers",
    "conv_general_dilated",
    "conv_general_dilated_local",
    "conv_general_dilated_patches",
    "conv_general_permutations",
    "conv_general_shape_tuple",
    "conv_shape_tuple",
    "conv_transpose",
    "conv_transpose_shape_tuple",
    "conv_with_general_padding",
    "padtype_to_pads",
]

Shape = tuple[int, ...]
ConvGeneralDilatedDimensionNumbers = tuple[str, str, str] | ConvDimensionNumbers | None
Padding = str | Sequence[tuple[int, int]]

_LETTERS = {"lhs": "NC", "rhs": "OI", "out": "NC"}


def conv_general_permutations(dimension_numbers: Sequence[str]) -> tuple[Shape, Shape, Shape]:
    """Return the places of batch, features and space that three strings such as ("NHWC", "HWIO", "NHWC") name.

    Spatial dimensions are any other letters, in the order of the second string.

    >>> conv_general_permutations(("NHWC", "HWIO", "NHWC"))
    ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    """
    for text, (side, letters) in zip(dimension_numbers, _LETTERS.items(), strict=True):
        if any(text.count(c) != 1 for c in letters) or len(set(text)) != len(text):
            raise ArgumentError(
                f"conv_general_dilated: dimension_numbers {tuple(dimension_numbers)}: {text!r} for {side}",
                fix=f"name {letters[0]!r}, {letters[1]!r} and each spatial dimension once: ('NHWC', 'HWIO', 'NHWC')",
            )
    space = [c for c in dimension_numbers[1] if c not in "OI"]
    if any(set(space) != set(text) - set("NC") for text in (dimension_numbers[0], dimension_numbers[2])):
        raise ArgumentError(
            f"conv_general_dilated: dimension_numbers {tuple(dimension_numbers)} name different spatial dimensions",
            fix="use the same letters in all three strings, as in ('NHWC', 'HWIO', 'NHWC')",
        )
    lhs, rhs, out = (
        tuple(text.index(c) for c in (*letters, *space))
        for text, letters in zip(dimension_numbers, _LETTERS.values(), strict=True)
    )
    return lhs, rhs, out


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: ConvGeneralDilatedDimensionNumbers
) -> ConvDimensionNumbers:
    """Return the dimension numbers of a convolution of operands of these shapes.

    `dimension_numbers`: three strings, such as ("NHWC", "HWIO", "NHWC"), a ConvDimensionNumbers, or None for batch or
    output feature first, then feature, then space.

    >>> conv_dimension_numbers((1, 3, 8), (4, 3, 2), None)
    ConvDimensionNumbers(lhs_spec=(0, 1, 2), rhs_spec=(0, 1, 2), out_spec=(0, 1, 2))
    """
    if isinstance(dimension_numbers, ConvDimensionNumbers):
        return ConvDimensionNumbers(*(tuple(int(d) for d in spec) for spec in dimension_numbers))
    rank = len(lhs_shape)
    if rank != len(rhs_shape):
        raise ShapeError(
            f"conv_general_dilated: lhs of shape {tuple(lhs_shape)} has {rank} dimensions, "
            f"rhs of shape {tuple(rhs_shape)} has {len(rhs_shape)}",
            fix="give both a batch or output feature, a feature, and as many spatial dimensions",
        )
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(rank)),) * 3)
    if (
        not isinstance(dimension_numbers, (tuple, list))
        or len(dimension_numbers) != 3
        or any(not isinstance(text, str) or len(text) != rank for text in dimension_numbers)
    ):
        raise ArgumentError(
            f"conv_general_dilated: dimension_numbers {dimension_numbers!r} for lhs of shape {tuple(lhs_shape)} "
            f"and rhs of shape {tuple(rhs_shape)}",
            fix=f"give three strings of {rank} letters, as in ('NHWC', 'HWIO', 'NHWC'), or a ConvDimensionNumbers",
        )
    return ConvDimensionNumbers(*conv_general_permutations(dimension_numbers))


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Any:
    """Convolve `lhs` with the kernel `rhs`, in any number of spatial dimensions.

    out[n, o, p] = Σᵢₖ lhs[n, i, p · stride + k · rhs_dilation − low] · rhs[o, i, k], with n for the batch, i and o for
    features, p for the window and k for the element in it. `lhs` is zero outside and between its elements, which are
    `lhs_dilation` apart.

    - `padding`: "SAME", "SAME_LOWER", "VALID", or (low, high) for each spatial dimension; negative numbers crop.
    - `dimension_numbers`: see `conv_dimension_numbers`; ("NCHW", "OIHW", "NCHW") by default.
    - `feature_group_count`: so many groups of output features see one group of the input features each.
    - `batch_group_count`: so many groups of output features see one group of the batch each.
    - `preferred_element_type`: the dtype of the result, and of the sums if it is wider than the operands'.

    >>> import funcgrad.numpy as jnp
    >>> conv_general_dilated(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5)), (1, 1), "SAME",
    ...                      dimension_numbers=("NHWC", "HWIO", "NHWC")).shape
    (1, 4, 4, 5)
    """
    check_precision("conv_general_dilated", precision)
    lhs, rhs = to_common_dtype("conv_general_dilated", lhs, rhs)
    lhs_aval, rhs_aval = aval_of(lhs), aval_of(rhs)
    numbers = conv_dimension_numbers(lhs_aval.shape, rhs_aval.shape, dimension_numbers)
    rank = len(numbers.rhs_spec) - 2
    ones = (1,) * rank
    strides = as_sizes("conv_general_dilated", "window_strides", window_strides, rank)
    spread = ones if lhs_dilation is None else as_sizes("conv_general_dilated", "lhs_dilation", lhs_dilation, rank)
    dilation = ones if rhs_dilation is None else as_sizes("conv_general_dilated", "rhs_dilation", rhs_dilation, rank)
    if isinstance(padding, str):
        if spread != ones:
            raise ArgumentError(
                f"conv_general_dilated: padding {padding!r} with lhs_dilation {spread}",
                fix="give pairs (low, high), or use conv_transpose",
            )
        space, window = ([x.shape[d] for d in s[2:]] for x, s in ((lhs_aval, numbers[0]), (rhs_aval, numbers[1])))
        padding = padtype_to_pads(
            space, [dilated(n, d) for n, d in zip(window, dilation, strict=True)], strides, padding
        )
    dtype = None if preferred_element_type is None else dtypes.requested(preferred_element_type, "conv_general_dilated")
    return ops.conv_general_dilated(
        lhs,
        rhs,
        strides,
        as_pads("conv_general_dilated", padding, rank),
        spread,
        dilation,
        numbers,
        int(feature_group_count),
        int(batch_group_count),
        dtype,
    )


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Padding,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolve `lhs` `(batch, in, *space)` with `rhs` `(out, in, *window)`: see `conv_general_dilated`.

    >>> import funcgrad.numpy as jnp
    >>> conv(jnp.ones((1, 1, 4)), jnp.ones((1, 1, 3)), (1,), "VALID")
    Array([[[3., 3.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, precision=precision, preferred_element_type=preferred_element_type
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolve like `conv`, with dilation of either operand: see `conv_general_dilated`."""
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


# ---------------------------------------------------------------- transposed convolution

_CHANNELS_LAST = (("NC", "IO", "NC"), ("NHC", "HIO", "NHC"), ("NHWC", "HWIO", "NHWC"), ("NHWDC", "HWDIO", "NHWDC"))


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Padding,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Any:
    """Convolve with fractional strides: the shapes are those of the transpose of a convolution with these strides.

    - `padding`: "SAME" and "VALID" are those of the convolution that is transposed; pairs pad `lhs` itself, or with
      `use_consistent_padding` are those of that convolution too, as in PyTorch.
    - `dimension_numbers`: channels last by default, ("NHWC", "HWIO", "NHWC").
    - `transpose_kernel`: reverse the kernel in space and exchange its features; the result is then the gradient of the
      convolution by its input, as in Keras.

    >>> import funcgrad.numpy as jnp
    >>> conv_transpose(jnp.ones((1, 3, 1)), jnp.ones((2, 1, 1)), (2,), "VALID")[0, :, 0]
    Array([1., 1., 1., 1., 1., 1.], dtype=float32)
    """
    lhs, rhs = to_common_dtype("conv_transpose", lhs, rhs)
    rank = aval_of(lhs).ndim - 2
    if dimension_numbers is None:
        if not 0 <= rank < len(_CHANNELS_LAST):
            raise ArgumentError(
                f"conv_transpose: no default dimension_numbers for lhs {aval_of(lhs)}",
                fix="give dimension_numbers; they are there for up to 3 spatial dimensions",
            )
        dimension_numbers = _CHANNELS_LAST[rank]
    numbers = conv_dimension_numbers(aval_of(lhs).shape, aval_of(rhs).shape, dimension_numbers)
    strides = as_sizes("conv_transpose", "strides", strides, rank)
    dilation = as_sizes("conv_transpose", "rhs_dilation", rhs_dilation or (1,) * rank, rank)
    if isinstance(padding, str) or use_consistent_padding:
        window = [dilated(aval_of(rhs).shape[d], n) for d, n in zip(numbers.rhs_spec[2:], dilation, strict=True)]
        padding = transposed_padding(window, strides, padding)
    if transpose_kernel:
        out_feature, in_feature, *space = numbers.rhs_spec
        order = list(range(rank + 2))
        order[out_feature], order[in_feature] = in_feature, out_feature
        rhs = shapes.transpose(shapes.rev(rhs, tuple(space)), order)
    return conv_general_dilated(
        lhs,
        rhs,
        (1,) * rank,
        padding,
        strides,
        dilation,
        numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def transposed_padding(window: Sequence[int], strides: Sequence[int], padding: Padding) -> list[tuple[int, int]]:
    """Padding of a transposed convolution from that of the convolution that it transposes."""
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ArgumentError(
                f"conv_transpose: padding is {padding!r}", fix="give 'SAME', 'VALID' or pairs (low, high)"
            )
        pads = []
        for k, s in zip(window, strides, strict=True):
            total = k + s - 2 + (max(k - s, 0) if padding == "VALID" else 0)
            before = k - 1 if padding == "VALID" or s > k - 1 else -(-total // 2)
            pads.append((before, total - before))
        return pads
    explicit = as_pads("conv_transpose", padding, len(window))
    return [(k - low - 1, k - high - 1) for k, (low, high) in zip(window, explicit, strict=True)]


# ---------------------------------------------------------------- patches


def conv_general_dilated_patches(
    lhs: Any,
    filter_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Return what a kernel of shape `filter_shape` sees at each place, side by side in the feature dimension.

    The features of the result are those of `lhs`, and for each the elements of the window in row-major order. Arguments
    are those of `conv_general_dilated`.

    >>> import funcgrad.numpy as jnp
    >>> conv_general_dilated_patches(jnp.arange(4.0)[None, None], (2,), (1,), "VALID")
    Array([[[0., 1., 2.],
            [1., 2., 3.]]], dtype=float32)
    """
    lhs = as_operand(lhs, "conv_general_dilated_patches")
    aval = aval_of(lhs)
    filter_shape = as_sizes("conv_general_dilated_patches", "filter_shape", filter_shape, max(aval.ndim - 2, 0))
    numbers = conv_dimension_numbers(aval.shape, (1, 1, *filter_shape), dimension_numbers)
    size, features = math.prod(filter_shape), aval.shape[numbers.lhs_spec[1]]
    one_hot = np.tile(np.eye(size, dtype=aval.dtype), (features, 1)).reshape(features * size, 1, *filter_shape)
    kernel = np.moveaxis(one_hot, range(aval.ndim), numbers.rhs_spec)
    return conv_general_dilated(
        lhs,
        as_array(np.ascontiguousarray(kernel)),
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        numbers,
        feature_group_count=features,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_general_dilated_local(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Padding,
    filter_shape: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: ConvGeneralDilatedDimensionNumbers = None,
    precision: Any = None,
) -> Any:
    """Convolve with another kernel at each place: a locally connected layer.

    The spatial dimensions of `rhs` are those of the result. Its input features are those of
    `conv_general_dilated_patches`: the features of `lhs`, and for each the elements of the window.

    >>> import funcgrad.numpy as jnp
    >>> conv_general_dilated_local(jnp.ones((1, 1, 4)), jnp.arange(6.0).reshape(1, 2, 3), (1,), "VALID", (2,))
    Array([[[3., 5., 7.]]], dtype=float32)
    """
    lhs, rhs = to_common_dtype("conv_general_dilated_local", lhs, rhs)
    patches = conv_general_dilated_patches(
        lhs, filter_shape, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, precision
    )
    numbers = conv_dimension_numbers(aval_of(lhs).shape, (1, 1, *filter_shape), dimension_numbers)
    _, rhs_spec, (out_batch, out_feature, *space) = numbers
    places = sorted(range(len(space)), key=space.__getitem__)
    batch = [space[i] for i in places], [rhs_spec[2 + i] for i in places]
    out = dot_general(patches, rhs, (((out_feature,), (rhs_spec[1],)), batch), precision)
    # The result has the spatial dimensions in their order, then the batch and the features.
    order = [*(space[i] for i in places), out_batch, out_feature]
    return shapes.transpose(out, np.argsort(order).tolist())


# ---------------------------------------------------------------- shapes


def conv_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    strides: Sequence[int],
    pads: Padding,
    batch_group_count: int = 1,
) -> Shape:
    """Return the shape of a convolution of `(batch, in, *space)` with `(out, in, *window)`.

    >>> conv_shape_tuple((1, 3, 8), (4, 3, 2), (2,), "VALID")
    (1, 4, 4)
    """
    if isinstance(pads, str):
        pads = padtype_to_pads(lhs_shape[2:], rhs_shape[2:], strides, pads)
    rank = len(lhs_shape) - 2
    pads = as_pads("conv_shape_tuple", pads, rank)
    ones = (1,) * rank
    geometry = windows(rhs_shape[2:], strides, pads, ones, ones)
    counts = [w.count(n) for n, w in zip(lhs_shape[2:], geometry, strict=True)]
    return tuple(int(n) for n in (lhs_shape[0] // batch_group_count, rhs_shape[0], *counts))


def _of_spec(shape: Sequence[int], spec: Sequence[int]) -> Shape:
    return tuple(shape[d] for d in spec)


def conv_general_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Padding,
    dimension_numbers: Sequence[str],
) -> Shape:
    """Return the shape of a convolution with these dimension numbers, three strings.

    >>> conv_general_shape_tuple((1, 8, 3), (2, 3, 4), (2,), "VALID", ("NHC", "HIO", "NHC"))
    (1, 4, 4)
    """
    lhs_spec, rhs_spec, out_spec = conv_general_permutations(dimension_numbers)
    sizes = conv_shape_tuple(_of_spec(lhs_shape, lhs_spec), _of_spec(rhs_shape, rhs_spec), window_strides, padding)
    return _of_spec(sizes, np.argsort(out_spec).tolist())


def conv_transpose_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Padding,
    dimension_numbers: Sequence[str],
) -> Shape:
    """Return the shape of a transposed convolution; pairs of `padding` pad the dilated operand.

    >>> conv_transpose_shape_tuple((1, 3, 1), (2, 1, 1), (2,), "VALID", ("NHC", "HIO", "NHC"))
    (1, 6, 1)
    """
    lhs_spec, rhs_spec, out_spec = conv_general_permutations(dimension_numbers)
    (batch, _, *space), (features, _, *window) = _of_spec(lhs_shape, lhs_spec), _of_spec(rhs_shape, rhs_spec)
    pads = transposed_padding(window, window_strides, padding) if isinstance(padding, str) else padding
    rows = zip(space, window, window_strides, pads, strict=True)
    counts = [(n - 1) * s - k + 2 + low + high for n, k, s, (low, high) in rows]
    sizes = (batch, features, *counts)
    return _of_spec(sizes, np.argsort(out_spec).tolist())
