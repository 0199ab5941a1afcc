"""FARM_FINGERPRINT: FarmHash's Fingerprint64 as a signed number, since so many splits of data are made with it."""

from __future__ import annotations

K0, K1, K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
MASK = (1 << 64) - 1
SEED = 81


def farm_fingerprint(text: str | bytes | None) -> int | None:
    """Give the fingerprint of a text's UTF-8 bytes; the numbers are those of BigQuery's own documentation.

    >>> [farm_fingerprint(text) for text in ("1footrue", "2applefalse", "3true")]
    [-1541654101129638711, 2794438866806483259, -4880158226897771312]
    """
    if text is None:
        return None
    value = fingerprint64(text.encode() if isinstance(text, str) else bytes(text))
    return value - (1 << 64) if value >> 63 else value


def fingerprint64(data: bytes) -> int:
    """Give the fingerprint of bytes as an unsigned number."""
    size = len(data)
    if size <= 16:
        return _up_to_16(data, size)
    if size <= 32:
        return _up_to_32(data, size)
    return _up_to_64(data, size) if size <= 64 else _longer(data, size)


def _up_to_16(data: bytes, size: int) -> int:
    if size >= 8:
        mul = K2 + size * 2
        a, b = _word(data, 0) + K2, _word(data, size - 8)
        c, d = _turn(b, 37) * mul + a, (_turn(a, 25) + b) * mul
        return _mix(c, d, mul)
    if size >= 4:
        return _mix(size + (_half(data, 0) << 3), _half(data, size - 4), K2 + size * 2)
    if size == 0:
        return K2
    y, z = data[0] + (data[size >> 1] << 8), size + (data[size - 1] << 2)
    return _shift((y * K2) ^ (z * K0)) * K2 & MASK


def _up_to_32(data: bytes, size: int) -> int:
    mul = K2 + size * 2
    a, b = _word(data, 0) * K1, _word(data, 8)
    c, d = _word(data, size - 8) * mul, _word(data, size - 16) * K2
    return _mix(_turn(a + b, 43) + _turn(c, 30) + d, a + _turn(b + K2, 18) + c, mul)


def _up_to_64(data: bytes, size: int) -> int:
    mul = K2 + size * 2
    a, b = _word(data, 0) * K2, _word(data, 8)
    c, d = _word(data, size - 8) * mul, _word(data, size - 16) * K2
    y = _turn(a + b, 43) + _turn(c, 30) + d
    z = _mix(y, a + _turn(b + K2, 18) + c, mul)
    e, f = _word(data, 16) * mul, _word(data, 24)
    g, h = (y + _word(data, size - 32)) * mul, (z + _word(data, size - 24)) * mul
    return _mix(_turn(e + f, 43) + _turn(g, 30) + h, e + _turn(f + a, 18) + g, mul)


def _longer(data: bytes, size: int) -> int:
    x, y = SEED, (SEED * K1 + 113) & MASK
    z = _shift(y * K2 + 113) * K2 & MASK
    v, w = (0, 0), (0, 0)
    x = (x * K2 + _word(data, 0)) & MASK
    for at in range(0, (size - 1) // 64 * 64, 64):
        x, y, z, v, w = _round(data, at, (x, y, z, v, w), K1, 1)
    mul = K1 + ((z & 0xFF) << 1)
    first = w[0] + ((size - 1) & 63)
    v = (v[0] + first, v[1])
    w = (first + v[0], w[1])
    x, y, z, v, w = _round(data, size - 64, (x, y, z, v, w), mul, 9)
    left = _mix(v[0], w[0], mul) + _shift(y) * K0 + z
    return _mix(left, _mix(v[1], w[1], mul) + x, mul)


Pair = tuple[int, int]
State = tuple[int, int, int, Pair, Pair]


def _round(data: bytes, at: int, state: State, mul: int, weight: int) -> State:
    x, y, z, v, w = state
    x = _turn(x + y + v[0] + _word(data, at + 8), 37) * mul
    y = _turn(y + v[1] + _word(data, at + 48), 42) * mul
    x = (x & MASK) ^ (w[1] * weight & MASK)
    y = (y + v[0] * weight + _word(data, at + 40)) & MASK
    z = _turn(z + w[0], 33) * mul & MASK
    v = _weak(data, at, v[1] * mul, x + w[0])
    w = _weak(data, at + 32, z + w[1], y + _word(data, at + 16))
    return z, y, x, v, w


def _weak(data: bytes, at: int, a: int, b: int) -> Pair:
    first, second, third, fourth = (_word(data, at + step) for step in (0, 8, 16, 24))
    a += first
    b = _turn(b + a + fourth, 21)
    c = a
    a += second + third
    b += _turn(a, 44)
    return (a + fourth) & MASK, (b + c) & MASK


def _mix(u: int, v: int, mul: int) -> int:
    a = _shift((u & MASK ^ v & MASK) * mul)
    b = _shift(((v & MASK) ^ a) * mul)
    return b * mul & MASK


def _shift(value: int) -> int:
    value &= MASK
    return value ^ (value >> 47)


def _turn(value: int, by: int) -> int:
    value &= MASK
    return (value >> by) | (value << (64 - by)) & MASK


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _half(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
