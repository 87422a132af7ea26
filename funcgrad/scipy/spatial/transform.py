"""funcgrad.scipy.spatial.transform: rotations in three dimensions, as unit quaternions (x, y, z, w).

Rotations are pytrees of one array of shape (4,) or (n, 4), so they pass through jit, vmap and grad.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.random import normal

__all__ = ["Rotation", "Slerp"]


def _inexact(x: Any, shape: tuple[int, ...], operation: str) -> Any:
    """Numbers as an array whose last dimensions are `shape`."""
    (x,) = promote_inexact(jnp.asarray(x), operation=operation)
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(f"{operation}: the operand is {x.aval}", fix=f"give shape (…, {str(shape)[1:-1].rstrip(',')})")
    return x


def _axes(seq: str, operation: str, lengths: Sequence[int]) -> tuple[bool, list[int]]:
    """Whether the axes move with the body, and the axes as numbers."""
    intrinsic = re.fullmatch("[XYZ]+", seq) is not None
    valid = intrinsic or re.fullmatch("[xyz]+", seq)
    if not valid or len(seq) not in lengths or any(a == b for a, b in zip(seq, seq[1:], strict=False)):
        raise ArgumentError(
            f"{operation}: seq={seq!r}",
            fix="give 'xyz' (fixed axes) or 'XYZ' (axes that move with the body), in any order, no axis twice in a row"
            + ("" if 1 in lengths else "; three letters"),
        )
    return intrinsic, ["xyz".index(axis) for axis in seq.lower()]


def _norm(x: Any) -> Any:
    return jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))


def _unit(quat: Any) -> Any:
    return quat / _norm(quat)


def _about_axis(axis: int, angle: Any) -> Any:
    """The quaternions of rotations about a coordinate axis."""
    zero = jnp.zeros_like(angle)
    parts = [zero, zero, zero, jnp.cos(angle / 2)]
    parts[axis] = jnp.sin(angle / 2)
    return jnp.stack(parts, -1)


def _product(p: Any, q: Any) -> Any:
    """The quaternion of the rotation q followed by p."""
    vector = p[..., 3:] * q[..., :3] + q[..., 3:] * p[..., :3] + jnp.cross(p[..., :3], q[..., :3])
    scalar = p[..., 3:] * q[..., 3:] - jnp.sum(p[..., :3] * q[..., :3], -1, keepdims=True)
    return jnp.concatenate([vector, scalar], -1)


def _degrees(angles: Any, degrees: bool) -> Any:
    return jnp.rad2deg(angles) if degrees else angles


def _radians(angles: Any, degrees: bool) -> Any:
    return jnp.deg2rad(angles) if degrees else angles


class Rotation(NamedTuple):
    """Rotations in three dimensions, as an array `quat` of quaternions (x, y, z, w): one, or several in rows.

    >>> import funcgrad.numpy as jnp
    >>> quarter = Rotation.from_euler("z", 90, degrees=True)
    >>> quarter.apply(jnp.array([1.0, 0.0, 0.0])).round(4)
    Array([0., 1., 0.], dtype=float32)
    """

    quat: Any

    @classmethod
    def concatenate(cls, rotations: Sequence[Rotation]) -> Rotation:
        """Return the rotations of all arguments, as rows of one object."""
        return cls(jnp.concatenate([jnp.atleast_2d(r.quat) for r in rotations]))

    @classmethod
    def from_euler(cls, seq: str, angles: Any, degrees: bool = False) -> Rotation:
        """Return rotations about one to three axes in turn, of shape (angles,) or (n, angles).

        `seq` has a letter per angle: lowercase for fixed axes, uppercase for axes that move with the body.
        """
        intrinsic, axes = _axes(seq, "Rotation.from_euler", (1, 2, 3))
        (angles,) = promote_inexact(jnp.atleast_1d(jnp.asarray(angles)), operation="Rotation.from_euler")
        angles = _radians(angles, degrees)
        if angles.shape[-1] != len(axes):
            raise ShapeError(
                f"Rotation.from_euler: seq={seq!r} with angles {angles.aval}", fix="give an angle per axis"
            )
        parts = [_about_axis(axis, angles[..., i]) for i, axis in enumerate(axes)]
        result = parts[0]
        for part in parts[1:]:
            result = _product(result, part) if intrinsic else _product(part, result)
        return cls(result)

    @classmethod
    def from_matrix(cls, matrix: Any) -> Rotation:
        """Return the rotations of orthogonal matrices of shape (3, 3) or (n, 3, 3).

        The largest of the four elements of a quaternion is computed first, which is accurate for all rotations.

        Source: Markley, "Unit quaternion from rotation matrix", 2008.
        """
        m = _inexact(matrix, (3, 3), "Rotation.from_matrix")
        x, y, z = (m[..., i, i] for i in range(3))
        trace = x + y + z
        # Row i is the quaternion times four times its element i.
        xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
        xw, yw, zw = (m[..., i, j] - m[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
        rows = [
            [1 - trace + 2 * x, xy, xz, xw],
            [xy, 1 - trace + 2 * y, yz, yw],
            [xz, yz, 1 - trace + 2 * z, zw],
            [xw, yw, zw, 1 + trace],
        ]
        candidates = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
        largest = jnp.argmax(jnp.stack([x, y, z, trace], -1), -1)
        return cls(_unit(jnp.take_along_axis(candidates, largest[..., None, None], -2)[..., 0, :]))

    @classmethod
    def from_mrp(cls, mrp: Any) -> Rotation:
        """Return the rotations of modified Rodrigues parameters: the axis times tan(angle / 4)."""
        mrp = _inexact(mrp, (3,), "Rotation.from_mrp")
        square = jnp.sum(mrp * mrp, -1, keepdims=True)
        return cls(jnp.concatenate([2 * mrp, 1 - square], -1) / (1 + square))

    @classmethod
    def from_quat(cls, quat: Any) -> Rotation:
        """Return the rotations of quaternions (x, y, z, w), which are normalized."""
        return cls(_unit(_inexact(quat, (4,), "Rotation.from_quat")))

    @classmethod
    def from_rotvec(cls, rotvec: Any, degrees: bool = False) -> Rotation:
        """Return the rotations of vectors with the direction of the axis and the length of the angle."""
        rotvec = _radians(_inexact(rotvec, (3,), "Rotation.from_rotvec"), degrees)
        square = jnp.sum(rotvec * rotvec, -1, keepdims=True)
        small = square <= 1e-6
        angle = jnp.sqrt(jnp.where(small, 1, square))
        scale = jnp.where(small, 0.5 - square / 48 + square * square / 3840, jnp.sin(angle / 2) / angle)
        cosine = jnp.where(small, 1 - square / 8 + square * square / 384, jnp.cos(angle / 2))
        return cls(jnp.concatenate([scale * rotvec, cosine], -1))

    @classmethod
    def identity(cls, num: int | None = None, dtype: Any = float) -> Rotation:
        """Return the rotation by 0, or `num` of them."""
        return cls(jnp.broadcast_to(jnp.array([0, 0, 0, 1], dtype), (4,) if num is None else (num, 4)))

    @classmethod
    def random(cls, random_key: Any, num: int | None = None) -> Rotation:
        """Return uniformly distributed rotations: the directions of normal quaternions.

        >>> import funcgrad as fg
        >>> Rotation.random(fg.random.key(0), 5).quat.shape
        (5, 4)
        """
        return cls(_unit(normal(random_key, (4,) if num is None else (num, 4))))

    def __getitem__(self, indexer: Any) -> Rotation:
        if self.single:
            raise ArgumentError(
                "Rotation: a single rotation has no rows", fix="index only objects of several rotations"
            )
        return Rotation(self.quat[indexer])

    def __len__(self) -> int:  # ty: ignore[incompatible-method-override]
        if self.single:
            raise ArgumentError("Rotation: a single rotation has no length", fix="use .single to tell them apart")
        return aval_of(self.quat).shape[0]

    def __mul__(self, other: Rotation) -> Rotation:  # ty: ignore[incompatible-method-override]
        """The rotation `other` followed by this one."""
        return Rotation(_unit(_product(self.quat, other.quat)))

    def apply(self, vectors: Any, inverse: bool = False) -> Any:
        """Rotate vectors of shape (…, 3), or rotate them back if `inverse`."""
        matrix = self.as_matrix()
        matrix = jnp.where(inverse, jnp.swapaxes(matrix, -1, -2), matrix)
        return jnp.einsum("...ij,...j->...i", matrix, _inexact(vectors, (3,), "Rotation.apply"))

    def as_euler(self, seq: str, degrees: bool = False) -> Any:
        """Return the angles of rotations about three axes in turn, in [−π, π); see `from_euler`.

        Where the first and third axis coincide, one of their angles is 0.

        Source: Bernardes, Viollet, "Quaternion to Euler angles conversion: a direct, general and computationally
        efficient method", 2022.
        """
        intrinsic, axes = _axes(seq, "Rotation.as_euler", (3,))
        i, j, k = axes[::-1] if intrinsic else axes
        symmetric = i == k
        k = 3 - i - j if symmetric else k
        sign = (i - j) * (j - k) * (k - i) // 2
        q = [self.quat[..., n] for n in range(4)]
        if symmetric:
            a, b, c, d = q[3], q[i], q[j], sign * q[k]
        else:
            a, b, c, d = q[3] - q[j], q[i] + sign * q[k], q[j] + q[3], sign * q[k] - q[i]
        middle = 2 * jnp.arctan2(jnp.hypot(c, d), jnp.hypot(a, b))
        half_sum, half_difference = jnp.arctan2(b, a), jnp.arctan2(d, c)
        at_zero, at_pi = jnp.abs(middle) <= 1e-7, jnp.abs(middle - np.pi) <= 1e-7
        # In the order of fixed axes.
        degenerate = jnp.where(at_zero, 2 * half_sum, (2 if intrinsic else -2) * half_difference)
        first = jnp.where(at_zero | at_pi, 0 if intrinsic else degenerate, half_sum - half_difference)
        third = jnp.where(at_zero | at_pi, degenerate if intrinsic else 0, half_sum + half_difference)
        if not symmetric:
            third, middle = third * sign, middle - np.pi / 2
        angles = jnp.stack([third, middle, first] if intrinsic else [first, middle, third], -1)
        return _degrees((angles + np.pi) % (2 * np.pi) - np.pi, degrees)

    def as_matrix(self) -> Any:
        """Return the matrices, of shape (3, 3) or (n, 3, 3)."""
        x, y, z, w = (self.quat[..., i] for i in range(4))
        rows = [
            [x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), y * y + w * w - x * x - z * z, 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), z * z + w * w - x * x - y * y],
        ]
        return jnp.stack([jnp.stack(row, -1) for row in rows], -2)

    def as_mrp(self) -> Any:
        """Return the modified Rodrigues parameters; see `from_mrp`."""
        quat = jnp.where(self.quat[..., 3:] < 0, -self.quat, self.quat)
        return quat[..., :3] / (1 + quat[..., 3:])

    def as_rotvec(self, degrees: bool = False) -> Any:
        """Return the vectors with the direction of the axis and the length of the angle, which is in [0, π]."""
        quat = jnp.where(self.quat[..., 3:] < 0, -self.quat, self.quat)
        square = jnp.sum(quat[..., :3] ** 2, -1, keepdims=True)
        small = square <= 2.5e-7
        sine = jnp.sqrt(jnp.where(small, 1, square))
        angle = 2 * jnp.arctan2(sine, quat[..., 3:])
        scale = jnp.where(small, 2 + square / 3, angle / sine)
        return _degrees(scale * quat[..., :3], degrees)

    def as_quat(self, canonical: bool = False, scalar_first: bool = False) -> Any:
        """Return the quaternions (x, y, z, w), or (w, x, y, z) if `scalar_first`.

        Of a quaternion and its negative, `canonical` takes the one whose last element that is not 0, in the order w,
        x, y, z, is positive.
        """
        quat = self.quat
        if canonical:
            ordered = jnp.roll(quat, 1, -1)
            leading = jnp.argmax(ordered != 0, -1, keepdims=True)
            quat = jnp.where(jnp.take_along_axis(ordered, leading, -1) < 0, -quat, quat)
        return jnp.roll(quat, 1, -1) if scalar_first else quat

    def inv(self) -> Rotation:
        """Return the inverse rotations."""
        return Rotation(self.quat * jnp.array([-1, -1, -1, 1], aval_of(self.quat).dtype))

    def magnitude(self) -> Any:
        """Return the angles, in [0, π]."""
        return 2 * jnp.arctan2(_norm(self.quat[..., :3])[..., 0], jnp.abs(self.quat[..., 3]))

    def mean(self, weights: Any = None) -> Rotation:
        """Return the rotation q that maximizes Σ wᵢ (q · qᵢ)², of several rotations qᵢ.

        Source: Markley, Cheng, Crassidis, Oshman, "Averaging quaternions", 2007.
        """
        quat = self.quat
        weights = jnp.ones(len(self), quat.dtype) if weights is None else jnp.asarray(weights, quat.dtype)
        if weights.shape != (len(self),):
            raise ShapeError(
                f"Rotation.mean: weights {weights.aval}, {len(self)} rotations", fix="give one per rotation"
            )
        return Rotation(jnp.linalg.eigh((weights * quat.T) @ quat)[1][:, -1])

    @property
    def single(self) -> bool:
        """Whether this is one rotation, not several."""
        return aval_of(self.quat).ndim == 1


class Slerp(NamedTuple):
    """Spherical linear interpolation of rotations: between two times, the axis is fixed and the speed constant.

    >>> import funcgrad.numpy as jnp
    >>> turn = Slerp.init(jnp.array([0.0, 2.0]), Rotation.from_euler("z", jnp.array([[0.0], [90.0]]), degrees=True))
    >>> turn(1.0).as_euler("xyz", degrees=True).round(3)
    Array([ 0.,  0., 45.], dtype=float32)
    """

    times: Any
    timedelta: Any
    rotations: Rotation
    rotvecs: Any

    @classmethod
    def init(cls, times: Any, rotations: Rotation) -> Slerp:
        """Return the interpolation of `rotations` at increasing `times`, 2 or more."""
        if not isinstance(rotations, Rotation) or rotations.single or len(rotations) < 2:
            raise ArgumentError(
                f"Slerp: rotations is {rotations!r:.80}", fix="give a Rotation object of 2 or more rows"
            )
        times = jnp.asarray(times, aval_of(rotations.quat).dtype)
        if times.shape != (len(rotations),):
            raise ShapeError(f"Slerp: times {times.aval}, {len(rotations)} rotations", fix="give a time per rotation")
        start = rotations[:-1]
        return cls(times, jnp.diff(times), start, (start.inv() * rotations[1:]).as_rotvec())

    def __call__(self, times: Any) -> Rotation:
        """Return the rotations at a time or a vector of times; outside of the given ones, the last speed continues."""
        times = jnp.asarray(times, aval_of(self.times).dtype)
        if times.ndim > 1:
            raise ShapeError(f"Slerp: times {times.aval}", fix="give a number or a vector")
        i = jnp.clip(jnp.searchsorted(self.times, times) - 1, 0, self.times.size - 2)
        part = (times - self.times[i]) / self.timedelta[i]
        return self.rotations[i] * Rotation.from_rotvec(self.rotvecs[i] * part[..., None])


_explain_missing_names(__name__)
