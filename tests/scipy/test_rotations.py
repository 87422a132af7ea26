"""scipy.spatial.transform: rotations are SciPy's, under transforms too; derivatives and errors."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import scipy.spatial.transform as oracle

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.scipy.spatial.transform import Rotation, Slerp
from funcgrad.testing import assert_close, check_grads

RNG = np.random.default_rng(0)
QUATS = RNG.normal(size=(6, 4))
# Half turns about each axis, the identity and small angles take branches of their own.
QUATS = np.concatenate([QUATS, np.eye(4), [[1e-5, 2e-5, 0, 1], [1, 1, 0, 0]]])
OURS = QUATS / np.linalg.norm(QUATS, axis=1, keepdims=True)
THEIRS = oracle.Rotation.from_quat(QUATS)
ANGLES = RNG.uniform(-1.5, 1.5, (4, 3))


def close(actual, expected, atol: float = 1e-12) -> None:
    assert_close(actual, np.asarray(expected), rtol=1e-12, atol=atol, check_dtypes=False)


def test_representations_are_scipys():
    with enable_x64():
        r = Rotation.from_quat(QUATS)
        close(r.as_quat(), THEIRS.as_quat())
        for options in ({"canonical": True}, {"scalar_first": True}, {"canonical": True, "scalar_first": True}):
            close(r.as_quat(**options), THEIRS.as_quat(**options))
        close(r.as_matrix(), THEIRS.as_matrix())
        close(r.as_mrp(), THEIRS.as_mrp())
        close(r.as_rotvec(), THEIRS.as_rotvec())
        close(r[0].as_rotvec(degrees=True), THEIRS[0].as_rotvec(degrees=True))
        close(r.magnitude(), THEIRS.magnitude())
        close(r[0].magnitude(), THEIRS[0].magnitude())


def test_rotations_are_made_as_in_scipy():
    with enable_x64():
        for i in (slice(None), 0):
            close(Rotation.from_matrix(THEIRS.as_matrix()[i]).as_matrix(), THEIRS[i].as_matrix())
            close(
                Rotation.from_mrp(THEIRS.as_mrp()[i]).as_quat(), oracle.Rotation.from_mrp(THEIRS.as_mrp()[i]).as_quat()
            )
            vector = THEIRS.as_rotvec()[i]
            close(Rotation.from_rotvec(vector).as_quat(), oracle.Rotation.from_rotvec(vector).as_quat())
        degrees = Rotation.from_rotvec([0, 90, 0], degrees=True)
        close(degrees.as_rotvec(), [0, np.pi / 2, 0])
        close(Rotation.identity().as_quat(), [0, 0, 0, 1])
        assert Rotation.identity(3).quat.shape == (3, 4)


@pytest.mark.parametrize("seq", ["xyz", "XYZ", "zxz", "ZXZ", "zyx", "YXZ"])
def test_euler_angles_are_scipys(seq: str):
    with enable_x64():
        theirs = oracle.Rotation.from_euler(seq, ANGLES)
        ours = Rotation.from_euler(seq, ANGLES)
        close(ours.as_matrix(), theirs.as_matrix())
        close(ours.as_euler(seq), theirs.as_euler(seq))
        close(Rotation.from_euler(seq[:2], [30, 40], True).as_quat(), euler(seq[:2], [30, 40]).as_quat())
        close(Rotation.from_euler(seq[:1], 30, degrees=True).as_matrix()[None], euler(seq[:1], [30]).as_matrix()[None])
        # The first and third axis coincide: the angles have other values, but are of the same rotation.
        middle = (0, np.pi) if seq[0] == seq[2] else (np.pi / 2, -np.pi / 2)
        for angle in middle:
            locked = Rotation.from_euler(seq, np.array([0.3, angle, 0.4]))
            close(Rotation.from_euler(seq, locked.as_euler(seq)).as_matrix(), locked.as_matrix(), atol=1e-6)


def euler(seq: str, degrees):
    return oracle.Rotation.from_euler(seq, degrees if len(seq) > 1 else degrees[0], degrees=True)


def test_operations_are_scipys():
    vectors = RNG.normal(size=(len(QUATS), 3))
    weights = RNG.uniform(1, 2, 6)
    with enable_x64():
        r = Rotation.from_quat(QUATS)
        for inverse in (False, True):
            close(r.apply(vectors, inverse), THEIRS.apply(vectors, inverse))
            close(r[0].apply(vectors, inverse), THEIRS[0].apply(vectors, inverse))
        close((r * r[1]).as_matrix(), (THEIRS * THEIRS[1]).as_matrix())
        close(r.inv().as_quat(), OURS * [-1, -1, -1, 1])
        close(Rotation.concatenate([r[:2], r[3]]).as_quat(), OURS[[0, 1, 3]])
        for w in (None, weights):
            close(r[:6].mean(w).as_matrix(), THEIRS[:6].mean(w).as_matrix(), atol=1e-9)
        assert len(r) == len(QUATS) and r[0].single and not r.single
        drawn = Rotation.random(fg.random.key(0), 2000)
        close(drawn.magnitude().mean(), np.pi / 2 + 2 / np.pi, atol=0.05)  # of uniformly distributed rotations


def test_interpolation_is_scipys():
    times, wanted = np.array([0.0, 1.0, 3.0, 4.0, 5.5, 6.0]), np.array([0.0, 0.5, 1.0, 2.5, 6.0])
    with enable_x64():
        ours, theirs = Slerp.init(times, Rotation.from_quat(QUATS[:6])), oracle.Slerp(times, THEIRS[:6])
        close(ours(wanted).as_matrix(), theirs(wanted).as_matrix())
        close(ours(2.5).as_matrix(), theirs(2.5).as_matrix())


@pytest.mark.oracle
def test_euler_angles_at_gimbal_lock_are_those_of_jax(jax):
    theirs = importlib.import_module("jax.scipy.spatial.transform").Rotation
    for seq, angle in (("xyz", 90), ("XYZ", -90), ("ZXZ", 180)):
        quat = np.asarray(theirs.from_euler(seq, np.array([10.0, angle, 20.0]), degrees=True).quat, np.float32)
        expected = theirs.from_quat(quat).as_euler(seq, degrees=True)
        assert_close(Rotation.from_quat(quat).as_euler(seq, degrees=True), np.asarray(expected), rtol=1e-3, atol=0.1)


def test_derivatives_and_compiled_functions():
    def turned(vector, q):
        r = Rotation.from_rotvec(vector) * Rotation.from_quat(q)
        return r.as_rotvec(), r.apply(vector), Rotation.from_matrix(r.as_matrix()).as_mrp()

    with enable_x64():
        check_grads(turned, (ANGLES[0], QUATS[0]))
        check_grads(lambda v: Rotation.from_rotvec(v).as_rotvec(), (np.zeros(3),), order=2)
        check_grads(lambda a: Rotation.from_euler("xyz", a).as_euler("ZXZ"), (ANGLES[0],))
        q = Rotation.from_quat(QUATS[:4])
        compiled = fg.jit(lambda r, a: r * Rotation.from_euler("zyx", a))(q, ANGLES)
        close(compiled.as_matrix(), (q * Rotation.from_euler("zyx", ANGLES)).as_matrix())
        mapped = fg.vmap(lambda r, v: r.apply(v))(q, jnp.asarray(ANGLES))
        close(mapped, THEIRS[:4].apply(ANGLES))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Rotation.from_euler("xx", [1, 2]), ArgumentError),
        (lambda: Rotation.from_euler("xY", [1, 2]), ArgumentError),
        (lambda: Rotation.from_euler("xyzx", np.ones(4)), ArgumentError),
        (lambda: Rotation.from_euler("xyz", [1, 2]), ShapeError),
        (lambda: Rotation.identity().as_euler("xy"), ArgumentError),
        (lambda: Rotation.from_quat([1, 2, 3]), ShapeError),
        (lambda: Rotation.from_matrix(np.eye(4)), ShapeError),
        (lambda: Rotation.identity()[0], ArgumentError),
        (lambda: len(Rotation.identity()), ArgumentError),
        (lambda: Rotation.identity(2).mean([1, 2, 3]), ShapeError),
        (lambda: Slerp.init([0, 1], Rotation.identity()), ArgumentError),
        (lambda: Slerp.init([0, 1, 2], Rotation.identity(2)), ShapeError),
        (lambda: Slerp.init([0, 1], Rotation.identity(2))(np.eye(2)), ShapeError),
    ],
)
def test_errors_explain_the_cause(call, error):
    with pytest.raises(error, match="fix: "):
        call()
