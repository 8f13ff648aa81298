"""Named random streams: the same names give the same stream on every machine and in every process.

Reads a seed and names such as stage, user and round. Returns a NumPy generator, a 64-bit integer, or the words of many
64-bit keys at once.
Trade-off: one hash per stream (about 1 microsecond) instead of a global seed, so that workers may run in any order.
"""

import hashlib

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)


def stable_hash(*names: object) -> int:
    """A 64-bit integer that depends only on the names, not on the process.

    Example:
        >>> stable_hash("candidates", 7) == stable_hash("candidates", 7)
        True
    """
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def rng(seed: int, *names: object) -> np.random.Generator:
    """A generator for one named purpose.

    Args:
        seed: The run's seed (`seed` in `params.yaml`).
        names: Purpose of the stream, such as ("candidates", "test", user_id).

    Returns:
        A NumPy generator (PCG64), independent of all other names.
    """
    return np.random.Generator(np.random.PCG64(stable_hash(seed, *names)))


def mix64(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 for every value (uint64): one flipped input bit flips half of the output bits.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    mixed: np.ndarray = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def words(keys: np.ndarray, width: int) -> np.ndarray:
    """Independent uniform 64-bit words: word j of a row is that of SplitMix64 with the row's key as seed.

    Args:
        keys: uint64 (R,), one per row.
        width: Number of words per row.

    Returns:
        uint64 (R, width).
    """
    return mix64(keys[:, None] + np.arange(1, width + 1, dtype=np.uint64) * _STEP)


def below(drawn: np.ndarray, bound: int) -> np.ndarray:
    """Words as integers from 0 to bound - 1; the bias is below bound / 2^32."""
    scaled: np.ndarray = ((drawn >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)
    return scaled
