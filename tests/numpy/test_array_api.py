"""The array API standard: namespace, inspection, kinds of dtypes, devices, and DLPack without copies."""

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp

# The names of the standard, version 2024.12, and of its extensions.
NAMES = """
abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor bool broadcast_arrays
broadcast_shapes broadcast_to can_cast ceil clip complex128 complex64 concat conj copysign cos cosh
count_nonzero cumulative_prod cumulative_sum diff divide e empty empty_like equal exp expand_dims expm1 eye
finfo flip float32 float64 floor floor_divide from_dlpack full full_like greater greater_equal hypot iinfo imag
inf int16 int32 int64 int8 isdtype isfinite isin isinf isnan less less_equal linspace log log10 log1p log2
logaddexp logical_and logical_not logical_or logical_xor matmul matrix_transpose max maximum mean meshgrid min
minimum moveaxis multiply nan negative newaxis nextafter nonzero not_equal ones ones_like permute_dims pi
positive pow prod real reciprocal remainder repeat reshape result_type roll round searchsorted sign signbit sin
sinh sort sqrt square squeeze stack std subtract sum take take_along_axis tan tanh tensordot tile tril triu
trunc uint16 uint32 uint64 uint8 unique_all unique_counts unique_inverse unique_values unstack var vecdot where
zeros zeros_like
"""
LINALG = """
cholesky cross det diagonal eigh eigvalsh inv matmul matrix_norm matrix_power matrix_rank matrix_transpose outer
pinv qr slogdet solve svd svdvals tensordot trace vecdot vector_norm
"""
FFT = "fft fftfreq fftn fftshift hfft ifft ifftn ifftshift ihfft irfft irfftn rfft rfftfreq rfftn"
INFO = jnp.__array_namespace_info__()
CPU = fg.devices()[0]


def test_every_name_of_the_standard_exists():
    for namespace, names in ((jnp, NAMES), (jnp.linalg, LINALG), (jnp.fft, FFT)):
        assert [name for name in names.split() if not hasattr(namespace, name)] == []


def test_arrays_name_their_namespace():
    assert jnp.ones(2).__array_namespace__() is jnp is jnp.ones(2).__array_namespace__(api_version="2024.12")
    assert fg.make_jaxpr(lambda x: x.__array_namespace__().sin(x))(1.0).eqns[0].primitive.name == "sin"
    with pytest.raises(ValueError, match="version '1999.12'"):
        jnp.ones(2).__array_namespace__(api_version="1999.12")


def test_the_namespace_tells_what_it_supports():
    assert INFO.capabilities() == {"boolean indexing": False, "data-dependent shapes": False, "max dimensions": 64}
    assert INFO.default_device() is CPU and INFO.devices() == [CPU]
    assert INFO.default_dtypes()["integral"] == "int32" and "float64" not in INFO.dtypes()
    assert set(INFO.dtypes(kind="signed integer")) == {"int8", "int16", "int32"}
    assert set(INFO.dtypes(kind=("bool", "complex floating"))) == {"bool", "complex64"}
    with fg.enable_x64():
        assert INFO.default_dtypes()["real floating"] == "float64" == INFO.dtypes()["float64"]
    with pytest.raises(ValueError, match="no device"):
        INFO.dtypes(device="gpu")


def test_arrays_are_exchanged_without_copies():
    theirs = np.arange(6, dtype=np.float32).reshape(2, 3)
    mine = jnp.from_dlpack(theirs)
    assert np.shares_memory(np.asarray(mine), theirs) and mine.__dlpack_device__() == (1, 0)
    x = fg.jit(lambda x: x + 1)(theirs)
    back = np.from_dlpack(x)
    assert np.shares_memory(back, np.asarray(x)) and not back.flags.writeable
    assert fg.dlpack.is_supported_dtype(jnp.complex64) and not fg.dlpack.is_supported_dtype("bfloat16")
    assert fg.dlpack.from_dlpack is jnp.from_dlpack


@pytest.mark.torch
def test_torch_shares_memory(torch):
    tensor = torch.arange(4.0)
    mine = jnp.from_dlpack(tensor)
    assert np.shares_memory(np.asarray(mine), tensor.numpy())


def test_buffers_are_read_only():
    view = jnp.arange(3).__buffer__(0)
    assert view.readonly and view.tolist() == [0, 1, 2]


def test_devices_are_arguments():
    for make in (lambda **o: jnp.ones(2, **o), lambda **o: jnp.asarray([1], **o), lambda **o: jnp.arange(3, **o)):
        assert make(device=CPU).device is CPU
    assert jnp.ones(2).to_device(CPU).device is CPU


@pytest.mark.oracle
def test_inspection_agrees_with_jax(jax):
    theirs = jax.numpy.__array_namespace_info__()
    assert INFO.capabilities() == theirs.capabilities() and INFO.default_dtypes() == theirs.default_dtypes()
    assert INFO.dtypes() == theirs.dtypes() and jnp.__array_api_version__ == jax.numpy.__array_api_version__
    for kind in ("integral", "real floating", "numeric", ("bool", "unsigned integer")):
        assert INFO.dtypes(kind=kind) == theirs.dtypes(kind=kind)
