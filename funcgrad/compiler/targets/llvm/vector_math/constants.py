"""Real constants to 256 bits and their expansion into floating-point parts."""

from __future__ import annotations

import struct
from fractions import Fraction

from funcgrad.compiler.targets.llvm.vector_math.scalar import F32, Scalar


def _fixed_point(scale: int, digits: int) -> Fraction:
    return Fraction(digits * scale, 1 << 256)


PI = _fixed_point(4, 0xC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22)
INVERSE_PI = _fixed_point(1, 0x517CC1B727220A94FE13ABE8FA9A6EE06DB14ACC9E21C820FF28B1D5EF5DE2B0)
LN2 = _fixed_point(1, 0xB17217F7D1CF79ABC9E3B39803F2F6AF40F343267298B62D8A0D175B8BAAFA2B)
LOG2_E = _fixed_point(2, 0xB8AA3B295C17F0BBBE87FED0691D3E88EB577AA8DD695A588B25166CD1A13247)
HALF_LOG_2PI = _fixed_point(1, 0xEB3F8E4325F5A53494BC900144192023CFB08F8D13458B4DDEC6A3133DAA155D)
DIGAMMA_ROOT = _fixed_point(2, 0xBB16C31AB5F1FB70D4E4432F05278358A9AFA431BC426074F8C1E1107FF7126A)
SQRT_HALF = Fraction(0.7071067811865476)
INF = float("inf")
NAN = float("nan")


def inverse_pi(bits: int) -> Fraction:
    """1/pi to a number of bits, by Machin's formula pi/4 = 4 atan(1/5) - atan(1/239)."""
    one = 1 << (bits + 32)

    def inverse_tangent(n: int) -> int:
        term, total, k = one // n, 0, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term, k = term // (n * n), k + 2
        return total

    return Fraction(one, 16 * inverse_tangent(5) - 4 * inverse_tangent(239))


def parts(value: Fraction, x: Scalar, count: int = 2) -> list[float]:
    """Numbers of the type of ``x``, each the rounding of what the ones before leave of ``value``."""
    found = []
    for _ in range(count):
        part = float(value)
        if x.type == F32:
            part = struct.unpack("f", struct.pack("f", part))[0]
        found.append(part)
        value -= Fraction(part)
    return found


def part(value: Fraction, x: Scalar) -> float:
    """``value`` rounded to the type of ``x``."""
    return parts(value, x, 1)[0]
