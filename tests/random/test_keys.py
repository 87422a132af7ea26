"""Arrays of keys: their dtype `key<fry>` and how primitives move, compare and refuse them.

The definition: what moves keys moves their words, uint32[*shape, 2], along the leading axes.
"""

import pickle

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, random

KEY = random.key(42)
KEYS = random.split(KEY, (2, 3))
WORDS = np.asarray(random.key_data(KEYS))
CHOICE = np.array([[True, False, True], [False, True, False]])

# Functions of keys of shape (2, 3), and the same function of their words.
MOVEMENT = {
    "reshape": (lambda k: k.reshape(3, 2), lambda w: w.reshape(3, 2, 2)),
    "ravel": (jnp.ravel, lambda w: w.reshape(-1, 2)),
    "transpose": (lambda k: k.T, lambda w: w.transpose(1, 0, 2)),
    "squeeze": (lambda k: k[:1].squeeze(0), lambda w: w[0]),
    "expand_dims": (lambda k: k[:, None], lambda w: w[:, None]),
    "broadcast_to": (lambda k: jnp.broadcast_to(k[0, 0], (4,)), lambda w: np.broadcast_to(w[0, 0], (4, 2))),
    "stack": (lambda k: jnp.stack([k[0], k[1]], axis=1), lambda w: np.stack([w[0], w[1]], axis=1)),
    "concatenate": (lambda k: jnp.concatenate([k, k[:, :1]], 1), lambda w: np.concatenate([w, w[:, :1]], 1)),
    "array": (lambda k: jnp.array([k[0, 0], k[1, 2]]), lambda w: np.array([w[0, 0], w[1, 2]])),
    "full_like": (lambda k: jnp.full_like(k, k[0, 1]), lambda w: np.broadcast_to(w[0, 1], w.shape)),
    "zeros_like": (jnp.zeros_like, np.zeros_like),
    "index": (lambda k: k[1, ::-1], lambda w: w[1, ::-1]),
    "indices": (lambda k: k[:, jnp.array([2, 0])], lambda w: w[:, [2, 0]]),
    "take": (lambda k: jnp.take(k, jnp.array([1, 7]), axis=0), lambda w: np.stack([w[1], np.full((3, 2), 2**32 - 1)])),
    "where": (lambda k: jnp.where(CHOICE, k, k[0, 0]), lambda w: np.where(CHOICE[..., None], w, w[0, 0])),
    "roll": (lambda k: jnp.roll(k, 1, axis=1), lambda w: np.roll(w, 1, axis=1)),
    "flip": (jnp.flip, lambda w: w[::-1, ::-1]),
    "repeat": (lambda k: jnp.repeat(k, 2, axis=1), lambda w: np.repeat(w, 2, axis=1)),
    "at_set": (lambda k: k.at[0, 1].set(k[1, 1]), lambda w: _replaced(w, (0, 1), (1, 1))),
    "at_get": (lambda k: k.at[:, 1].get(), lambda w: w[:, 1]),
    "dynamic_slice": (lambda k: lax.dynamic_slice(k, (1, 1), (1, 2)), lambda w: w[1:, 1:]),
    "select": (
        lambda k: lax.select(jnp.asarray(CHOICE), k, k[::-1]),
        lambda w: np.where(CHOICE[..., None], w, w[::-1]),
    ),
    "copy": (jnp.copy, np.copy),
    "stop_gradient": (lax.stop_gradient, np.copy),
    "cond": (lambda k: lax.cond(True, lambda k: k[0], lambda k: k[1], k), lambda w: w[0]),
    "fori_loop": (
        lambda k: lax.fori_loop(0, 3, lambda i, k: k.at[0, 0].set(k[0, i]), k),
        lambda w: _replaced(w, (0, 0), (0, 2)),
    ),
    "scan": (lambda k: lax.scan(lambda c, x: (x, c), k[0], k)[1], lambda w: w[[0, 0]]),
    "vmap_last": (fg.vmap(lambda k: k[::-1], in_axes=-1, out_axes=-1), lambda w: w[::-1]),
}


def _replaced(words, place, source):
    words = words.copy()
    words[place] = words[source]
    return words


@pytest.mark.parametrize("name", MOVEMENT)
def test_what_moves_keys_moves_their_words(name):
    move, move_words = MOVEMENT[name]
    moved = move(KEYS)
    assert moved.dtype is KEYS.dtype and fg.eval_shape(move, KEYS).shape == moved.shape
    np.testing.assert_array_equal(random.key_data(moved), move_words(WORDS))


def test_compiled_programs_move_keys_as_eager_functions_do():
    program = fg.jit(lambda keys: {name: move(keys) for name, (move, _) in MOVEMENT.items()})
    assert "key<fry>[2,3]" in program.lower(KEYS).as_text("jaxpr") and "key" not in program.lower(KEYS).as_text("loops")
    for name, moved in program(KEYS).items():
        assert moved.dtype is KEYS.dtype
        np.testing.assert_array_equal(random.key_data(moved), MOVEMENT[name][1](WORDS), err_msg=name)


def test_words_convert_to_keys_and_back():
    for wrap in (random.wrap_key_data, fg.jit(random.wrap_key_data)):
        np.testing.assert_array_equal(random.key_data(wrap(WORDS)), WORDS)
    np.testing.assert_array_equal(fg.jit(random.key_data)(KEYS), WORDS)
    assert random.key_data(KEY).tolist() == [0, 42] and random.key_impl(KEYS) == "threefry2x32"
    mapped = fg.jit(fg.vmap(random.wrap_key_data, in_axes=1, out_axes=1))(WORDS)
    np.testing.assert_array_equal(random.key_data(mapped), WORDS)


def test_keys_compare_with_keys():
    for compare in (lambda a, b: (a == b, a != b), fg.jit(lambda a, b: (a == b, a != b))):
        equal, unequal = compare(KEYS, KEYS[1, 2])
        assert equal.tolist() == (~unequal).tolist() == [[False] * 3, [False, False, True]]
    assert jnp.array_equal(KEYS, KEYS)


def test_key_arrays_are_arrays():
    assert isinstance(KEYS, fg.Array) and fg.tree.leaves(KEYS)[0] is KEYS
    assert (KEYS.shape, KEYS.ndim, KEYS.size, len(KEYS), KEYS.nbytes, KEYS.itemsize) == ((2, 3), 2, 6, 2, 48, 8)
    assert KEYS.dtype is random.key_dtype() and str(KEYS.dtype) == KEYS.dtype.name == "key<fry>"
    assert fg.typeof(KEYS).short() == "key<fry>[2,3]" and jnp.result_type(KEYS, KEY) is KEYS.dtype
    assert fg.tree.map(lambda k: k.shape, {"a": KEYS}) == {"a": (2, 3)}
    assert [k.shape for k in KEYS] == [(3,), (3,)]
    assert repr(KEY) == "Array((), dtype=key<fry>) overlaying:\n[ 0 42]" == str(KEY) == f"{KEY}"
    struct = fg.ShapeDtypeStruct((4,), KEY.dtype)
    assert repr(struct) == "ShapeDtypeStruct(shape=(4,), dtype=key<fry>)"
    assert fg.eval_shape(fg.vmap(random.split), struct) == fg.ShapeDtypeStruct((4, 2), KEY.dtype)
    assert fg.device_get(KEY) is KEY and fg.device_put(KEY) is KEY


def test_keys_copy_and_pickle():
    loaded = pickle.loads(pickle.dumps(KEYS))
    assert loaded.dtype is KEYS.dtype and (loaded == KEYS).all()


def test_keys_pass_through_transforms():
    keys = KEYS[0]
    rows = fg.vmap(lambda k: random.normal(k, (5,)))(keys)
    assert np.array_equal(rows, jnp.stack([random.normal(k, (5,)) for k in keys]))
    folded = fg.jit(fg.vmap(lambda i: random.fold_in(KEY, i)))(jnp.arange(3))
    assert all(folded[i] == random.fold_in(KEY, i) for i in range(3))
    assert fg.vmap(random.key)(jnp.arange(4)).shape == (4,)

    def noisy(x, key):
        return jnp.sum(x * random.normal(key, x.shape)), random.split(key)

    gradient, split = fg.jit(fg.grad(noisy, has_aux=True))(jnp.ones(3), KEY)
    np.testing.assert_allclose(gradient, random.normal(KEY, (3,)), rtol=1e-6)
    assert (split == random.split(KEY)).all()
    closed_over = fg.jit(lambda: random.split(KEY))()
    assert (closed_over == random.split(KEY)).all()


def test_loops_carry_keys():
    def step(key, _):
        key, subkey = random.split(key)
        return key, random.bits(subkey)

    key, bits = KEY, []
    for _ in range(4):
        key, b = step(key, None)
        bits.append(int(b))
    last, ys = fg.jit(lambda k: lax.scan(step, k, None, length=4))(KEY)
    assert last == key and ys.tolist() == bits
    first = fg.jit(lambda k: lax.while_loop(lambda k: random.uniform(k) > 0.1, lambda k: random.split(k)[0], k))(KEY)
    assert random.uniform(first) <= 0.1


def test_callbacks_receive_keys(capfd):
    seen = []
    fg.jit(lambda k: fg.debug.callback(lambda k: seen.append(k), k))(KEY)
    fg.jit(lambda k: fg.debug.print("{}", k))(KEY)
    fg.effects_barrier()
    assert seen[0].dtype is KEY.dtype and seen[0] == KEY
    assert capfd.readouterr().out == f"{KEY}\n"


@pytest.mark.parametrize(
    "function",
    [
        *(lambda k: k + 1, lambda k: k + k, lambda k: -k, lambda k: 2.0 * k, lambda k: k & 1, lambda k: k < k),
        *(jnp.sin, jnp.sum, jnp.max, jnp.cumsum, jnp.argmax, jnp.sort, lambda k: k[0] @ k[0], lambda k: k == 1),
        *(lambda k: k.astype("uint32"), lambda k: k.view("uint32"), lambda k: k.at[0].add(k[0])),
        *(lambda k: jnp.where(True, k, 0), lambda k: jnp.promote_types(k.dtype, "float32")),
        *(np.asarray, lambda k: float(k[0, 0]), lambda k: bool(k[0, 0]), lambda k: k.tolist(), hash),
    ],
)
def test_keys_are_not_numbers(function):
    with pytest.raises(TypeError, match="key"):
        function(KEYS)


def test_a_single_key_is_required():
    with pytest.raises(ValueError, match="expected a single key"):
        random.normal(KEYS)
    with pytest.raises(TypeError, match="not a key"):
        random.wrap_key_data(jnp.zeros(3, "uint32"))


@pytest.mark.oracle
def test_keys_print_and_trace_as_in_jax(jax):
    theirs = jax.random.split(jax.random.key(42), (2, 3))
    assert repr(KEYS) == repr(theirs) and str(KEYS.dtype) == str(theirs.dtype)
    assert repr(fg.eval_shape(lambda k: k, KEYS)) == repr(jax.eval_shape(lambda k: k, theirs))
    assert np.array_equal(random.key_data(jnp.ones_like(KEYS)), jax.random.key_data(jax.numpy.ones_like(theirs)))
