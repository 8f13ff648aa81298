import time
from hashlib import sha256

import numpy as np
import pytest

from features.errors import InputError, TrainingError
from features.vision import photo_index
from features.vision.image_decoding import PhotoLimits, Rejection
from features.vision.image_loader import Feeder, Job, Recipe
from features.vision.photo_index import PhotoIndex
from features.vision.photo_store import PhotoStore, read_photo
from features.vision.pixel_buffers import SHARED, new_buffer, view
from features.vision.preprocessing import fit_of
from tests.features.made_photos import drawing, encoded


@pytest.fixture
def jobs(tmp_path) -> list[Job]:
    """Ten different photos; the fourth is broken."""
    for number in range(10):
        (tmp_path / f"B{number}.jpg").write_bytes(
            encoded(drawing(size=(60 + number, 40))) if number != 3 else b"<html>"
        )
    keys = [f"B{number}" for number in range(10)]
    index = PhotoIndex(keys, PhotoStore(tmp_path), most=1, max_bytes=1e6, placeholders=(), workers=2)
    return list(index.wanted())


def recipe() -> Recipe:
    return Recipe(fit=fit_of({"size": 16}), limits=PhotoLimits(), shrink_to=None)


def test_photos_are_read_slightly_ahead_of_the_consumer(tmp_path, monkeypatch):
    for number in range(20):
        (tmp_path / f"B{number:02d}.jpg").write_bytes(f"{number}".encode())
    read: list[str] = []
    monkeypatch.setattr(photo_index, "READ_AT_ONCE", 1)
    monkeypatch.setattr(photo_index, "read_photo", lambda photo: read.append(photo.item_key) or read_photo(photo))
    keys = [f"B{number:02d}" for number in range(20)]
    index = PhotoIndex(keys, PhotoStore(tmp_path), most=1, max_bytes=1e6, placeholders=(), workers=1)
    assert index.at_most == 20
    jobs = index.wanted(lambda digest: digest != sha256(b"1").hexdigest())
    assert next(jobs).photo.item_key == "B00"
    until = time.monotonic() + 20
    while len(read) < 3 and time.monotonic() < until:  # nobody takes the next ones yet
        time.sleep(0.01)
    assert read == keys[:3]
    assert [job.photo.item_key for job in jobs] == keys[2:]
    assert (index.at_most, len(index.jobs), [len(photos) for photos in index.photos_by_item]) == (19, 20, [1] * 20)


def feeder(**options: object) -> Feeder:
    return Feeder(recipe(), **{"batch_size": 4, "workers": 2, "kind": "threads", "device": "cpu"} | options)


def pixels_of(jobs: list[Job], **options: object) -> tuple[list[str], list[np.ndarray], list[int]]:
    digests, pixels, sizes = [], [], []
    with feeder(**options) as found:
        for batch in found.batches(jobs):
            digests += [outcome.digest for outcome in batch.outcomes]
            pixels += [row.numpy().copy() for row in batch.pixels[: len(batch.outcomes)]]
            sizes.append(len(batch.pixels))
    return digests, pixels, sizes


@pytest.mark.parametrize(
    "options", [{}, {"workers": 7}, {"ahead": 3}, {"ahead": 1, "batch_size": 3}, {"kind": "processes", "ahead": 2}]
)
def test_each_row_is_the_photo_of_its_outcome(jobs, options):
    digests, pixels, sizes = pixels_of(jobs, **options)
    assert digests == [job.digest for job in jobs]
    assert set(sizes) == {options.get("batch_size", 4)}
    for number, found in enumerate(pixels):
        if number != 3:
            assert np.array_equal(found, recipe().fit(drawing_of(jobs[number])))


def drawing_of(job: Job):  # the photo as decoded on its own
    from features.vision.image_decoding import decode
    from features.vision.photo_store import read_photo

    return decode(read_photo(job.photo), PhotoLimits()).image


def test_a_broken_photo_is_rejected_beside_good_ones(jobs):
    with feeder() as found:
        outcomes = [outcome for batch in found.batches(jobs) for outcome in batch.outcomes]
    assert [number for number, outcome in enumerate(outcomes) if outcome.rejection] == [3]
    assert outcomes[3].rejection == Rejection(reason="not_an_image", detail="6 bytes that begin with b'<html>'")


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_photo_that_changes_within_the_run_is_an_error(jobs, kind):
    jobs[5].photo.path.write_bytes(encoded(drawing("blue", size=(65, 40))).ljust(jobs[5].photo.num_bytes, b"\0"))
    with pytest.raises(InputError, match=r"B\d\.jpg, which changed during this run"), feeder(kind=kind) as found:
        list(found.batches(jobs))


def test_a_buffer_shared_with_workers_is_the_same_memory():
    buffer = new_buffer((2, 3, 3, 3), shared=True, pinned=False)
    view(buffer.target)[1] = 9
    assert buffer.pixels.sum() == 9 * 27
    name = buffer.target.name
    view.__globals__["_attached"].cache_clear()
    buffer.close()
    assert not (SHARED / name).exists()


def test_a_shared_buffer_allocates_its_memory_at_once():
    buffer = new_buffer((4, 512, 512, 3), shared=True, pinned=False)
    try:
        assert (SHARED / buffer.target.name).stat().st_blocks * 512 >= 4 * 512 * 512 * 3
    finally:
        buffer.close()


def test_too_little_shared_memory_is_one_clear_line():
    with pytest.raises(TrainingError, match=r"raise the container's limit \(--shm-size\)"):
        new_buffer((10**7, 224, 224, 3), shared=True, pinned=False)
