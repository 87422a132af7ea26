"""Functions mapped over devices. With one device, each axis that is mapped over has size 1."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.devices import Device, device_count
from funcgrad.core.shardings import Mesh, NamedSharding, PartitionSpec, get_mesh
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.ops.shapes import squeeze
from funcgrad.transforms.flattening import callable_or_error, name_of
from funcgrad.transforms.jit import jit
from funcgrad.transforms.vmap import vmap


def pmap(
    fun: Callable[..., Any],
    axis_name: Any = None,
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    static_broadcasted_argnums: int | Iterable[int] = (),
    devices: Sequence[Device] | None = None,
    backend: str | None = None,
    axis_size: int | None = None,
    donate_argnums: int | Sequence[int] = (),
) -> Callable[..., Any]:
    """Map a function over devices: `jit` of `vmap`, where the mapped axis is at most as long as there are devices.

    Raises:
      ShapeError: the mapped axis is longer than the number of devices.

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad import lax
    >>> pmap(lambda x: x - lax.psum(x, "i"), axis_name="i")(jnp.ones((1, 2)))
    Array([[0., 0.]], dtype=float32)
    """
    callable_or_error(fun, "pmap")
    axis = object() if axis_name is None else axis_name
    given = static_broadcasted_argnums
    static = {given} if isinstance(given, int) else set(given)

    def mapped(*args: Any, **kwargs: Any) -> Any:
        dynamic = [i for i in range(len(args)) if i not in static]
        axes = tuple(in_axes[i] for i in dynamic) if isinstance(in_axes, (tuple, list)) else in_axes

        def call(*values: Any, **keywords: Any) -> Any:
            size = traces.state.axis_sizes[axis]
            if size > device_count():
                raise ShapeError(
                    f"pmap of {name_of(fun)}: the mapped axis has size {size}, there is {device_count()} device",
                    fix="use vmap, or reshape to a leading axis of size 1",
                )
            known = dict(zip(dynamic, values, strict=True))
            return fun(*(known.get(i, x) for i, x in enumerate(args)), **keywords)

        call.__name__ = name_of(fun)
        return vmap(call, axes, out_axes, axis_name=axis, axis_size=axis_size)(*(args[i] for i in dynamic), **kwargs)

    mapped.__name__ = mapped.__qualname__ = name_of(fun)
    return jit(mapped, static_argnums=sorted(static), donate_argnums=donate_argnums)


def _over_axes(f: Callable[..., Any], names: Sequence[Any]) -> Callable[..., Any]:
    """Return `f` with axes of these names in scope, each of size 1."""
    mapped = f
    for name in names:
        mapped = vmap(mapped, None, 0, axis_name=name, axis_size=1)
    leading = tuple(range(len(names)))

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        return tree.map(lambda x: squeeze(x, leading), mapped(*args))

    return call


def _required_mesh(operation: str, mesh: Mesh | None) -> Mesh:
    found = get_mesh() if mesh is None else mesh
    if found.empty:
        raise ArgumentError(f"{operation}: there is no mesh", fix="pass mesh=, or use set_mesh")
    return found


def _check_specs(operation: str, mesh: Mesh, specs: Any, values: Any) -> None:
    """Raise unless each spec names axes of the mesh, at most one dimension each, of a value with enough dimensions."""
    for spec, x in zip(tree.flatten_axes(operation, tree.structure(values), specs), tree.leaves(values), strict=True):
        if not isinstance(spec, PartitionSpec):
            raise ArgumentError(f"{operation}: {spec!r:.60} is no PartitionSpec", fix="use funcgrad.P('axis', ...)")
        NamedSharding(mesh, spec)  # which checks the names
        if len(spec) > aval_of(x).ndim:
            raise ShapeError(
                f"{operation}: {spec} is for {len(spec)} dimensions, the value is {aval_of(x)}",
                fix="give at most one entry per dimension",
            )


def shard_map(
    f: Callable[..., Any] | None = None,
    /,
    *,
    out_specs: Any,
    in_specs: Any = None,
    mesh: Mesh | None = None,
    axis_names: Any = frozenset(),
    check_vma: bool = True,
) -> Any:
    """Map a function over the parts of arrays on the devices of a mesh. Each part is the whole array here.

    Collectives may name the axes of the mesh, which have size 1. Without `f`, returns a decorator.

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad import lax
    >>> from funcgrad.sharding import PartitionSpec as P, make_mesh
    >>> mesh = make_mesh((1,), ("i",))
    >>> shard_map(lambda x: lax.psum(x, "i"), mesh=mesh, in_specs=P("i"), out_specs=P())(jnp.arange(3))
    Array([0, 1, 2], dtype=int32)
    """
    if f is None:
        return functools.partial(shard_map, out_specs=out_specs, in_specs=in_specs, mesh=mesh, axis_names=axis_names)
    callable_or_error(f, "shard_map")

    @functools.wraps(f)
    def mapped(*args: Any) -> Any:
        over = _required_mesh("shard_map", mesh)
        if in_specs is not None:
            specs = tuple(in_specs) if isinstance(in_specs, (tuple, list)) else in_specs
            _check_specs("shard_map in_specs", over, specs, args)
        out = _over_axes(f, over.axis_names)(*args)
        _check_specs("shard_map out_specs", over, out_specs, out)
        return out

    return mapped


def smap(
    f: Callable[..., Any] | None = None, /, *, in_axes: Any = None, out_axes: Any, axis_name: Any, mesh: Any = None
) -> Any:
    """Map a function over one axis of the mesh, as `shard_map` does over all; each part is the whole array here."""
    if f is None:
        return functools.partial(smap, in_axes=in_axes, out_axes=out_axes, axis_name=axis_name, mesh=mesh)
    callable_or_error(f, "smap")

    @functools.wraps(f)
    def mapped(*args: Any) -> Any:
        over = _required_mesh("smap", mesh)
        if axis_name not in over.axis_names:
            raise ArgumentError(f"smap: axis {axis_name!r} is not one of {over.axis_names}", fix="name a mesh axis")
        return _over_axes(f, (axis_name,))(*args)

    return mapped
