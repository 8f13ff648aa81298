"""PCG64 for thousands of seeds at once: the integers that NumPy would draw, one column of draws per step.

Returns the numbers of `Generator(PCG64(seed)).integers` for each seed.
Trade-off: NumPy takes 20 microseconds to create a generator and 7 to draw 131 numbers; here both take 3 together, at
the cost of implementing SeedSequence (O'Neill's seed_seq), PCG XSL-RR 128/64 (O'Neill 2014) and Lemire's bounded
integers (2019). A test compares the result with NumPy bit by bit.
"""

import numpy as np

U64 = np.uint64
_LOW = U64(0xFFFFFFFF)
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
_POOL = 4


def bounded(seeds: np.ndarray, most: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `width` integers from 1 to `most` of the generator of every seed.

    Args:
        seeds: (R,) uint64.
        most: Largest integer, below 2**32.
        width: W, the number of draws per seed.

    Returns:
        int64 (R, W), and (R,) whether NumPy draws exactly these. For bounds that are not a power of two, NumPy rejects
        a number once in `2**32 / most` draws, and the rest of that row differs.
    """
    high, low, increment = _seeded(seeds)
    drawn = np.empty((width + width % 2, len(seeds)), U64)
    exact = np.ones(len(seeds), bool)
    threshold = U64((2**32 - most) % most)
    for place in range(0, width, 2):
        high, low = _stepped(high, low, increment)
        raw = _output(high, low)
        for half, word in enumerate((raw & _LOW, raw >> U64(32))):
            scaled = word * U64(most)
            drawn[place + half] = scaled >> U64(32)
            if place + half < width:
                exact &= (scaled & _LOW) >= threshold
    return drawn[:width].T.astype(np.int64) + 1, exact


Wide = tuple[np.ndarray, np.ndarray]


def _seeded(seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray, Wide]:
    """State (high, low) and increment of PCG64 for every seed."""
    state_high, state_low, sequence_high, sequence_low = _seed_words(seeds)
    increment = (sequence_high << U64(1) | sequence_low >> U64(63), sequence_low << U64(1) | U64(1))
    high, low = _added(*increment, state_high, state_low)
    return *_stepped(high, low, increment), increment


def _seed_words(seeds: np.ndarray) -> np.ndarray:
    """(4, R) uint64: the result of `SeedSequence(seed).generate_state(4, numpy.uint64)`."""
    pool = [(seeds & _LOW).astype(np.uint32), (seeds >> U64(32)).astype(np.uint32)]
    pool += [np.zeros(len(seeds), np.uint32)] * (_POOL - len(pool))
    constant = _INIT_A
    for place in range(_POOL):
        pool[place], constant = _hashed(pool[place], constant, _MULT_A)
    for source in range(_POOL):
        for place in range(_POOL):
            if source != place:
                hashed, constant = _hashed(pool[source], constant, _MULT_A)
                mixed: np.ndarray = _MIX_L * pool[place] - _MIX_R * hashed
                pool[place] = mixed ^ (mixed >> np.uint32(16))
    constant, words = _INIT_B, []
    for place in range(2 * _POOL):
        word, constant = _hashed(pool[place % _POOL], constant, _MULT_B)
        words.append(word.astype(U64))
    return np.stack([words[place] | words[place + 1] << U64(32) for place in range(0, 2 * _POOL, 2)])


def _hashed(values: np.ndarray, constant: int, multiplier: int) -> tuple[np.ndarray, int]:
    """One step of the hash of SeedSequence, and its next constant."""
    following = constant * multiplier & 0xFFFFFFFF
    values = (values ^ np.uint32(constant)) * np.uint32(following)
    return values ^ (values >> np.uint32(16)), following


def _stepped(high: np.ndarray, low: np.ndarray, increment: Wide) -> Wide:
    """The next state: times the multiplier, plus the increment, modulo 2**128."""
    by_high, by_low = U64(_MULTIPLIER >> 64), U64(_MULTIPLIER & 0xFFFFFFFFFFFFFFFF)
    product_high, product_low = _multiplied(low, by_low)
    return _added(product_high + high * by_low + low * by_high, product_low, *increment)


def _multiplied(left: np.ndarray, right: np.uint64) -> Wide:
    """The 128 bits of a product of 64-bit numbers."""
    left_high, left_low, right_high, right_low = left >> U64(32), left & _LOW, right >> U64(32), right & _LOW
    lowest = left_low * right_low
    middle = left_high * right_low + (lowest >> U64(32))
    carried = left_low * right_high + (middle & _LOW)
    return left_high * right_high + (middle >> U64(32)) + (carried >> U64(32)), left * right


def _added(high: np.ndarray, low: np.ndarray, more_high: np.ndarray, more_low: np.ndarray) -> Wide:
    total = low + more_low
    return high + more_high + (total < low), total


def _output(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The 64-bit output of a state: its halves xored and rotated by its highest six bits."""
    mixed, turn = high ^ low, high >> U64(58)
    turned: np.ndarray = mixed >> turn | mixed << (-turn & U64(63))
    return turned
