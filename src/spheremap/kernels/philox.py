"""Counter-based random numbers: Philox4x32-10 in integer arithmetic.

The generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Each number is a
pure function of key and counter, so that it can be drawn anywhere, in any order, without any state: by a
program on a GPU, or here, with the same bits.
"""

from torch import Tensor

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four random words of 32 bits per counter.

    Args:
        counter: four words of 32 bits, int64 tensors of shapes that broadcast.
        key: two words of 32 bits, likewise.

    Returns:
        Four int64 tensors with values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high_0, low_0 = _multiply(c0, _MULTIPLIERS[0])
        high_1, low_1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def below(word: Tensor, n: Tensor) -> Tensor:
    """Map random words of 32 bits to integers in [0, n), by `word * n / 2**32` rounded down.

    Each integer has the probability 1 / n to within 2**-32. Takes n < 2**31; n = 0 gives 0.
    """
    return (word * n) >> 32


def split_words(value: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high 32 bits of an int64 tensor."""
    return value & _LOW, (value >> 32) & _LOW


def _multiply(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product of 32-bit words; in two halves, since int64 has a sign bit."""
    low_half = (factor & 0xFFFF) * word  # below 2**48
    high_half = (factor >> 16) * word + (low_half >> 16)  # below 2**49
    return high_half >> 16, ((high_half << 16) | (low_half & 0xFFFF)) & _LOW
