from hashlib import sha256

import pytest

from features.encoders.rank_partition import Share, share, wait_until_none
from features.errors import InputError, ParamsError

DIGESTS = [sha256(str(number).encode()).hexdigest() for number in range(1000)]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_digests_are_partitioned_evenly_among_processes(world):
    held = [[digest for digest in DIGESTS if Share(rank=rank, world=world).has(digest)] for rank in range(world)]
    assert sorted(digest for part in held for digest in part) == sorted(DIGESTS)
    assert min(map(len, held)) > 0.7 * len(DIGESTS) / world


def test_the_share_is_what_torchrun_says(monkeypatch):
    assert share() == Share(rank=0, world=1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share() == Share(rank=2, world=3)
    assert [Share(rank=rank, world=3).merges for rank in range(3)] == [True, False, False]
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ParamsError, match="RANK=3"):
        share()


def test_waiting_ends_when_done_or_without_progress():
    left = iter([3, 3, 1, 0])
    wait_until_none(lambda: next(left), world=2, patience_seconds=5, pause_seconds=0.001)
    with pytest.raises(InputError, match="found 2 photos or titles not encoded by other processes"):
        wait_until_none(lambda: 2, world=2, patience_seconds=0.02, pause_seconds=0.001)
    with pytest.raises(RuntimeError, match="2 not encoded at the end of the only process"):
        wait_until_none(lambda: 2, world=1, patience_seconds=3600)
