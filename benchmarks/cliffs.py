"""Where JAX is faster: `python -m benchmarks.cliffs [words]` runs every operation, and loops, under jit against JAX.

A program is its own text: an expression over `np` (the NumPy module), `lax`, `lib` (jit's module), and arrays that are
named below, which are the arguments. The programs of elementwise primitives are made from the registry. Each line is
JAX's processor time over funcgrad's, the median of rounds in alternation; ratios under 1 come first. Words select the
programs that contain one of them. The last lines list the primitives that no program contains.
"""

from __future__ import annotations

import importlib
import inspect
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from benchmarks.frameworks import Framework, load
from benchmarks.timing import without_quick

ROUNDS, ROUND_SECONDS = 7, 0.03

OPERATIONS = """
np.sum(x); np.sum(m, 0); np.sum(m, 1); np.prod(x); np.max(x); np.min(m, 0); np.mean(m, 1); np.var(m, 0); np.std(x)
np.any(b); np.all(b); np.argmax(x); np.argmax(m, 0); np.argmin(m, 1); np.median(m, 1); np.nansum(x); np.count_nonzero(b)
np.cumsum(x); np.cumsum(m, 0); np.cumsum(m, 1); np.cumprod(m, 1); lax.cummax(m, 1); lax.cummin(x); np.cumsum(i)
lax.cumlogsumexp(m, 1); np.tanh(np.cumsum(2.0 * m, 1) + 1.0); lax.associative_scan(np.add, x)
lax.associative_scan(lambda l, r: (l[0] * r[0], l[1] * r[0] + r[1]), (m, n), axis=1)[1]
lax.associative_scan(lambda l, r: (l[0] * r[0], l[1] * r[0] + r[1]), (x, y))[1]
np.sort(x); np.sort(m, 0); np.argsort(m, 1); lax.top_k(x, 10); lax.top_k(m, 10); np.searchsorted(table, x)
np.digitize(x, table); np.histogram(x, 100)[0]; np.histogram(x, table)[0]; np.interp(x, table, table)
np.bincount(i, length=1000); np.bincount(i, weights=x, length=1000); np.unique(i, size=1000)
x[i]; np.take(m, rows, 0); np.take_along_axis(m, i2, 1); m[rows, rows]; x[::-1]; m[::2, 1:]; m.T; m.T + n
x.at[i].set(y); x.at[i].add(y); x.at[i].max(y); x.at[i].multiply(y); m.at[rows].add(n); m.at[:, rows].set(n)
m.at[3:500, 7:900].add(1.0); lib.grad(lambda x: np.sum(x[i] ** 2))(x); lib.grad(lambda m: np.sum(m[rows] ** 2))(m)
lib.vmap(lambda r, j: lax.dynamic_slice(r, (j,), (100,)))(m, rows); lax.dynamic_slice(m, (rows[0], 3), (900, 900))
lib.vmap(lambda r, j: lax.dynamic_update_slice(r, r[:9], (j,)))(m, rows); lax.dynamic_update_slice(m, n[:500], (9, 0))
np.where(b, x, y); np.clip(x, 0.2, 0.8); np.roll(m, 7, 1); np.flip(m, 0); np.tile(m[0], 1000); np.repeat(x, 3)
np.pad(m, 3); lax.pad(x, 0.0, [(0, 0, 1)]); np.concatenate([m, n], 1); np.stack([x, y], -1); np.stack([m, n], 1)
np.broadcast_to(x[:1000], (1000, 1000)) + 0.0; np.diff(m, axis=1); np.triu(m); np.eye(1000); np.arange(1000000) * 2
np.linspace(0.0, 1.0, 1000000); lax.iota(np.int32, 1000000); np.diagonal(m) + 0.0; np.trace(m); np.outer(m[0], n[0])
np.meshgrid(m[0], n[0])[0] + 0.0; np.split(m, 4, 1)[1] * 2.0; np.moveaxis(m.reshape(100, 100, 100), 0, -1) + 0.0
i % 7; i // 7; i % (1 + i2.ravel()); i // (1 + i2.ravel()); x % 0.3; x // 0.3; np.divmod(i, 10); np.gcd(i, 60)
lax.div(i, np.int32(7)); lax.rem(i, np.int32(7)); i * i; i ** 3; i >> 2; i & 255; np.power(i, i2.ravel() & 3); x ** 2.5
x.astype(np.int32); x.astype(np.int8); i.astype(np.float32); i.astype(np.int8); x.astype(np.float16)
b.astype(np.float32); i.astype(np.int16) + 1; x.astype(np.bfloat16) * 2
lax.bitcast_convert_type(x, np.int32); lax.reduce_precision(x, 5, 10)
np.matmul(m, n); np.dot(m, m[0]); np.einsum("ij,ij->i", m, n); np.vdot(x, y); np.kron(m[:30, :30], n[:30, :30])
np.convolve(x, table[:15]); lax.reduce_window(m, -np.inf, lax.max, (3, 3), (1, 1), "VALID"); np.polyval(table[:5], x)
lax.reduce_window(m, 0.0, lax.add, (2, 2), (2, 2), "SAME")
lax.conv(m[None, None], n[None, None, :5, :5], (1, 1), "SAME")
lax.reduce(x, 0.0, lambda a, b: a + b, (0,)); lax.reduce(m, 0.0, lambda a, b: a + b - a * b, (1,))
lax.reduce((m, i2), (-np.inf, 0), lambda a, b: (np.maximum(a[0], b[0]), np.where(a[0] < b[0], b[1], a[1])), (1,))
lax.reduce_xor(i, (0,)); lax.reduce_or(b, (0,)); np.nan_to_num(x); np.isclose(x, y); np.sign(i); np.abs(i)
np.hypot(x, y); np.logaddexp(x, y); np.sinc(x); np.heaviside(x, y); np.ldexp(x, i); np.frexp(x)[0]
np.modf(x)[0]; np.copysign(x, y); np.float_power(x, 2.0); np.select([b, x > 0.5], [x, y])
np.unwrap(x); np.cross(m[:, :3], n[:, :3]); np.cov(m[:100])
nn.softmax(m); nn.one_hot(rows, 1000); nn.relu(x); nn.gelu(x); nn.logsumexp(m, 1)
np.linalg.cholesky(m[:64, :64] @ m[:64, :64].T + 64 * np.eye(64))
random.normal(key, (1000, 1000)); random.uniform(key, (1000000,)); random.permutation(key, 100000)
c * c; np.abs(c); np.exp(c); np.sum(c); c / (c + 2.0); np.real(c * 2.0); np.cumsum(c)
"""

LOOPS = """
loop(lambda k, a: a.at[k].set(1.0), x)
loop(lambda k, a: a.at[k].add(1.0), x)
loop(lambda k, a: a.at[k].set(a[k - 1] * 0.5 + y[k]), x)
loop(lambda k, a: a.at[i[k]].add(y[k]), x)
loop(lambda k, a: a.at[np.array([k, k + 1])].set(2.0), x)
loop(lambda k, a: a.at[np.array([k, k + 1])].add(a[k]), x)
loop(lambda k, a: a.at[k, k % 7].add(1.0), m, 1000)
loop(lambda k, a: a.at[k].set(n[k] + 1.0), m, 1000)
loop(lambda k, a: lax.dynamic_update_slice(a, a[:8] * 2.0, (k,)), x)
loop(lambda k, a: lax.cond(y[k] > 0.5, lambda a: a.at[k].set(0.0), lambda a: a, a), x)
loop(lambda k, a: lax.cond(y[k] > 0.5, lambda a: a.at[k].set(0.0), lambda a: a.at[k].add(1.0), a), x)
loop(lambda k, a: np.where(y[k] > 0.5, a.at[k].set(0.0), a), x[:1000], 1000)
loop(lambda k, s: (s[0].at[k].set(s[1]), s[1] * 0.99 + y[k]), (x, 1.0))
loop(lambda k, s: s + x[k] * y[k], 0.0)
loop(lambda k, s: (s * 5 + 3) % 1009, 1)
loop(lambda k, s: (s * 5 + k) // 3 % 1009, 1)
loop(lambda k, s: s + i[k] % 10, 0)
loop(lambda j, a: loop(lambda k, a: a.at[k].add(a[j]), a, 100), x, 100)
loop(lambda j, a: loop(lambda k, a: a.at[j, k].set(a[j - 1, k] + a[j, k - 1]), a, 100), m, 100)
loop(lambda k, a: a.at[k].set(c[k]), c)
loop(lambda k, a: a.at[i[k] % 16].add(1), i[:16])
loop(lambda k, a: np.sort(a.at[0].set(y[k])), x[:64], 1000)
lax.while_loop(lambda s: s[0] < 10000, lambda s: (s[0] + 1, s[1].at[s[0]].set(1.0)), (0, x))[1]
lax.scan(lambda a, k: (a.at[k].add(1.0), None), x, i[:10000])[0]
lax.scan(lambda a, k: (a.at[k].add(1.0), a[k]), x, i[:10000])
lax.scan(lambda s, v: (0.9 * s + v, s), 0.0, x)[1]
lax.scan(lambda s, v: (np.maximum(s + v, 0.0), s), 0.0, x)[1]
lax.scan(lambda s, v: (s @ m[:8, :8] + v, s[0]), m[0, :8], m[:, :8])[1]
lax.scan(lambda s, v: (np.cumsum(s + v) * 0.01, s[0]), m[0], m)[1]
lib.grad(lambda a: np.sum(loop(lambda k, a: a.at[k].set(a[k - 1] * 0.5), a, 1000)))(x[:1000])
lib.grad(lambda a: np.sum(loop(lambda k, a: a.at[k].multiply(0.5), a, 1000) ** 2))(x)
lib.grad(lambda a: np.sum(lax.scan(lambda s, v: (0.9 * s + np.sin(v), s), 0.0, a)[1]))(x)
lib.grad(lambda a: lax.scan(lambda s, k: (s + a[k] ** 2, None), 0.0, i[:10000])[0])(x)
lib.vmap(lambda r: loop(lambda k, r: r.at[k].set(r[k - 1] + 1.0), r, 1000))(m)
lib.vmap(lambda r, j: loop(lambda k, s: s + lax.dynamic_slice(r, (j + k,), (8,)), r[:8], 50))(m, rows)
lib.vmap(lambda r: grown(lambda r: np.sort(r) * 1.1, r[:64]))(m)
lib.vmap(lambda r: grown(lambda r: np.cumsum(r) * 0.2 + r, r[:64]))(m)
lib.vmap(lambda r: grown(lambda r: r.at[np.argmax(r)].multiply(1.5) * 1.1, r[:64]))(m)
lib.vmap(lambda r: grown(lambda r: r * 1.1 + lax.top_k(r, 3)[0][0], r[:64]))(m)
lib.vmap(lambda r: grown(lambda r: r * 1.1 + 0.1 * np.interp(r[0], table, table), r[:64]))(m)
lib.vmap(lambda r: grown(lambda r: r * 1.1 + 0.01 * np.searchsorted(table, r), r[:64]))(m)
lib.vmap(lambda r: grown(lambda r: r @ n[:16, :16] * 0.3, r[:16]))(m)
lib.vmap(lambda r: grown(lambda r: r * 1.1 + r[::-1], r[:4]))(m)
loop(lambda k, a: a.at[lax.top_k(a, 3)[1]].multiply(0.9), x[:1000], 1000)
loop(lambda k, a: np.roll(a, 1) * 0.5 + a, m, 20)
loop(lambda k, a: a.at[1:-1].set(a[2:] + a[:-2]), x[:1000], 1000)
"""


def arrays() -> dict[str, numpy.ndarray]:
    """Return the arguments: a million floats in (0, 1), integers, booleans and complex numbers, or a thousand."""
    rng = numpy.random.default_rng(0)
    x, y = rng.random((2, 1_000_000), numpy.float32)
    i, rows = rng.integers(0, 1000, 1_000_000).astype(numpy.int32), rng.integers(0, 1000, 1000).astype(numpy.int32)
    square = {"m": x.reshape(1000, 1000), "n": y.reshape(1000, 1000), "i2": i.reshape(1000, 1000)}
    table = numpy.sort(rng.random(1000, numpy.float32))
    return {"x": x, "y": y, "i": i, "rows": rows, "b": x < 0.5, "c": x + 1j * y, "table": table} | square


ARRAYS = arrays()


def programs() -> Iterator[str]:
    """Yield the text of all programs."""
    yield from _elementwise()
    yield from (text.strip() for text in OPERATIONS.replace("\n", "; ").split(";") if text.strip())
    yield from (text for text in LOOPS.splitlines() if text)


def _elementwise() -> Iterator[str]:
    """A program for each elementwise primitive that `lax` has a function for, with operands that it takes."""
    fw = load("funcgrad")
    from funcgrad.core.lowering import Elementwise, Host
    from funcgrad.core.primitives import registry

    operands = ("x", "y", "x"), ("i", "i2.ravel() & 7", "i"), ("b", "b", "b"), ("b", "x", "y"), ("c", "c", "c")
    for name, primitive in sorted(registry.items()):
        function = getattr(fw.lib.lax, name, None)
        if function is None or not isinstance(primitive.lowering, (Elementwise, Host)):
            continue
        count = sum(p.default is p.empty for p in inspect.signature(function).parameters.values())
        for names in operands:
            text = f"lax.{name}({', '.join(names[:count])})"
            try:
                fw.lib.make_jaxpr(program(text, fw))(*ARRAYS.values())
            except (TypeError, ValueError):  # not for these types
                continue
            yield text
            break


def program(text: str, fw: Framework) -> Callable[..., Any]:
    """Return the function of all arrays that a text describes."""
    lax = fw.lib.lax

    def loop(body: Callable[..., Any], start: Any, count: int = 10_000) -> Any:
        return lax.fori_loop(0, count, body, start)

    def grown(body: Callable[..., Any], row: Any) -> Any:
        """Apply a function until the sum is large, at most 20 times."""
        start = (0, row)
        return lax.while_loop(lambda s: (np.sum(s[1]) < 1e3) & (s[0] < 20), lambda s: (s[0] + 1, body(s[1])), start)[1]

    np, nn, random = (importlib.import_module(f"{fw.name}.{name}") for name in ("numpy", "nn", "random"))
    names = {"np": np, "nn": nn, "random": random, "lax": lax, "lib": fw.lib, "loop": loop, "grown": grown}
    names["key"] = random.key(0)
    code = compile(text, text, "eval")
    return lambda *values: eval(code, names | dict(zip(ARRAYS, values, strict=True)))


def call_of(text: str, fw: Framework) -> Callable[[], Any]:
    """Return the call of a compiled program, with those arrays that it mentions."""
    used = [name for name in ARRAYS if name in re.findall(r"\w+", text)]
    whole = program(text, fw)
    compiled = fw.lib.jit(lambda given: whole(*(given.get(name) for name in ARRAYS)))
    given = {name: fw.array(ARRAYS[name]) for name in used}
    return lambda: fw.block(compiled(given))


def ratio(text: str, frameworks: list[Framework], count: int = ROUNDS) -> tuple[float, float]:
    """Return funcgrad's seconds of processor time, and the second framework's over them."""
    calls, counts = [call_of(text, fw) for fw in frameworks], []
    for call in calls:
        call()
        counts.append(max(1, round(ROUND_SECONDS / max(_seconds(call, 1), 1e-6))))
    rounds = [[_seconds(call, n) for call, n in zip(calls, counts, strict=True)] for _ in range(count)]
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] / r[0] for r in rounds)


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def _missing(texts: list[str], fw: Framework) -> list[str]:
    """Primitives of the registry that no program contains."""
    from funcgrad.core.jaxprs import subjaxprs
    from funcgrad.core.primitives import registry

    seen: set[str] = set()
    for text in texts:
        pending = [fw.lib.make_jaxpr(program(text, fw))(*ARRAYS.values()).jaxpr]
        while pending:
            for eqn in pending.pop().eqns:
                seen.add(eqn.primitive.name)
                pending += subjaxprs(eqn.params)
    return sorted(set(registry) - seen)


def main(words: list[str]) -> None:
    """Measure the programs that contain one of the words, or all, and print them."""
    words, quick = without_quick(words)
    frameworks = [load("funcgrad"), load("jax")]
    texts = [text for text in programs() if not words or any(word in text for word in words)]
    found = []
    for text in texts:
        found.append((*ratio(text, frameworks, 3 if quick else ROUNDS), text))
        print(f"{found[-1][1]:8.2f} {found[-1][0] * 1e3:10.3f} ms  {text}", file=sys.stderr, flush=True)
    found.sort(key=lambda row: row[1])
    below = sum(row[1] < 1 for row in found)
    print(f"{below} of {len(found)} under 1, {sum(row[1] < 0.8 for row in found)} under 0.8")
    for ours, other, text in found:
        print(f"{other:8.2f} {ours * 1e3:10.3f} ms  {text}")
    if not words:
        print("not run:", ", ".join(_missing(texts, frameworks[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
