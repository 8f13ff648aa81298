import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.runtime.seeds import below, rng, stable_hash, words


def test_stream_is_the_same_in_another_process(root: Path) -> None:
    code = "from features.runtime.seeds import rng; print(rng(7, 'candidates', 3).integers(0, 1000, 3).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert other.stdout.strip() == str(rng(7, "candidates", 3).integers(0, 1000, 3).tolist())


def test_stream_is_pinned_across_versions() -> None:
    assert stable_hash("candidates", 7) == 4668546056403705383
    assert rng(2022, "candidates", "test", 1).integers(0, 1000, 3).tolist() == [821, 171, 693]


def test_names_do_not_run_together() -> None:
    assert stable_hash("ab", "c") != stable_hash("a", "bc")


@given(st.integers(), st.integers())
def test_other_seeds_give_other_streams(one: int, other: int) -> None:
    assert (stable_hash(one, "x") == stable_hash(other, "x")) == (one == other)


def test_words_are_those_of_splitmix64() -> None:
    """Seed 1234567 of the reference implementation."""
    assert words(np.array([1234567], dtype=np.uint64), 3)[0].tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip
    assert below(np.array([0, 2**63, 2**64 - 1], dtype=np.uint64), 10).tolist() == [0, 5, 9]
