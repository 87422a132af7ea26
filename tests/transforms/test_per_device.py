"""Devices, shardings, meshes, and functions mapped over them: with one device, axes have size 1."""

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

MESH = fg.make_mesh((1, 1), ("data", "model"))
CPU = fg.devices()[0]
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_arrays_know_where_they_are():
    x = jnp.asarray(X)
    assert x.sharding == SingleDeviceSharding(CPU) and x.sharding.device_set == x.devices() == {CPU}
    assert x.is_fully_addressable and x.is_fully_replicated and x.is_ready() and not x.committed
    (shard,) = x.addressable_shards
    assert shard.device is CPU and shard.index == (slice(None),) * 2 and shard.replica_id == 0
    np.testing.assert_array_equal(shard.data, X)
    np.testing.assert_array_equal(x.addressable_data(0), X)
    assert x.copy_to_host_async() is None and x.on_device_size_in_bytes() == x.nbytes == 24
    assert fg.copy_to_host_async({"x": x})["x"] is x


def test_meshes_and_shardings():
    assert MESH.shape == {"data": 1, "model": 1} and MESH.size == 1 and MESH.axis_names == ("data", "model")
    sharding = NamedSharding(MESH, fg.P("data", None))
    assert sharding.shard_shape((4, 2)) == (4, 2) and sharding.is_equivalent_to(SingleDeviceSharding(CPU), 2)
    assert sharding.devices_indices_map((4, 2)) == {CPU: (slice(None), slice(None))}
    assert sharding == NamedSharding(MESH, PartitionSpec("data", None)) != NamedSharding(MESH, fg.P())
    assert len({sharding, NamedSharding(MESH, fg.P())}) == 2
    with pytest.raises(ValueError, match="needs 2 devices"):
        fg.make_mesh((2,), ("x",))
    with pytest.raises(ValueError, match="names 'other'"):
        NamedSharding(MESH, fg.P("other"))
    with pytest.raises(ValueError, match="one name for each axis"):
        Mesh(np.array([CPU], object), ("x", "y"))


def test_values_are_placed_where_a_sharding_says():
    for where in (CPU, SingleDeviceSharding(CPU), NamedSharding(MESH, fg.P("data"))):
        np.testing.assert_array_equal(fg.device_put(X, where), X)
        np.testing.assert_array_equal(fg.jit(lambda x: x + 1, in_shardings=where, out_shardings=where)(X), X + 1)
        np.testing.assert_array_equal(fg.jit(lambda x, w=where: lax.with_sharding_constraint(x, w))(X), X)
        np.testing.assert_array_equal(fg.make_array_from_callback((2, 3), where, lambda i: X[i]), X)
    np.testing.assert_array_equal(fg.make_array_from_single_device_arrays((2, 3), SingleDeviceSharding(CPU), [X]), X)
    np.testing.assert_array_equal(fg.make_array_from_process_local_data(SingleDeviceSharding(CPU), X), X)
    np.testing.assert_array_equal(fg.reshard(X, NamedSharding(MESH, fg.P())), X)
    with pytest.raises(ValueError, match="not a device or sharding"):
        fg.device_put(X, "gpu")
    with pytest.raises(ValueError, match="not a device or sharding"):
        fg.jit(lambda x: x, in_shardings="gpu")
    with pytest.raises(ValueError, match="the data have shape"):
        fg.make_array_from_callback((3, 3), SingleDeviceSharding(CPU), lambda i: X)


def test_pmap_is_vmap_over_an_axis_of_size_1():
    mapped = fg.pmap(lambda x, scale: lax.psum(x * scale, "i") + lax.axis_index("i"), "i", in_axes=(0, None))
    np.testing.assert_array_equal(mapped(X[None], 2.0), 2 * X[None])
    static = fg.pmap(lambda n, x: x * n, static_broadcasted_argnums=0)
    np.testing.assert_array_equal(static(3, X[None]), 3 * X[None])
    with pytest.raises(ValueError, match="has size 2, there is 1 device"):
        fg.pmap(lambda x: x)(X)


def test_shard_map_passes_whole_arrays():
    f = fg.shard_map(
        lambda x, w: lax.psum(x @ w, "model") + lax.axis_index("data"),
        mesh=MESH,
        in_specs=(fg.P("data", "model"), fg.P("model")),
        out_specs=fg.P("data"),
    )
    w = np.ones(3, np.float32)
    np.testing.assert_array_equal(f(X, w), X @ w)
    gradient = fg.jit(fg.grad(lambda x: jnp.sum(f(x, w) ** 2)))(X)
    np.testing.assert_allclose(gradient, 2 * (X @ w)[:, None] * w, rtol=1e-6)
    with fg.set_mesh(MESH):
        decorated = fg.shard_map(out_specs=fg.P(), in_specs=fg.P())(lambda x: lax.pmean(x, "data"))
        np.testing.assert_array_equal(decorated(X), X)
        np.testing.assert_array_equal(fg.smap(lambda x: lax.psum(x, "data"), out_axes=0, axis_name="data")(X), X)
    with pytest.raises(ValueError, match="there is no mesh"):
        decorated(X)
    with pytest.raises(ValueError, match="3 dimensions"):
        fg.shard_map(lambda x: x, mesh=MESH, in_specs=fg.P(None, None, "data"), out_specs=fg.P())(X)


def test_debug_shows_shardings(capsys):
    seen = []
    fg.jit(lambda x: fg.debug.inspect_array_sharding(x, callback=seen.append))(X)
    assert seen == [SingleDeviceSharding(CPU)]
    fg.debug.visualize_array_sharding(jnp.ones(2))
    assert "CPU 0" in capsys.readouterr().out


@pytest.mark.oracle
def test_names_print_as_in_jax(jax):
    for spec in ((), ("x",), ("x", None), (("x", "y"), None)):
        assert repr(fg.P(*spec)) == repr(jax.P(*spec))
    mine, theirs = (m.make_mesh((1,), ("x",)) for m in (fg, jax))
    assert repr(mine) == repr(theirs)
    assert repr(NamedSharding(mine, fg.P("x"))) == repr(jax.NamedSharding(theirs, jax.P("x")))
    assert repr(jnp.ones(2).sharding) == repr(jax.numpy.ones(2).sharding)
