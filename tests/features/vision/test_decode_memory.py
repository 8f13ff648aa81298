import multiprocessing
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

from features.vision.decode_memory import MemoryBudget, webp_canvas
from features.vision.image_decoding import PhotoLimits, Rejection, decode
from features.vision.image_loader import Feeder, Job, Recipe
from features.vision.photo_store import PhotoStore
from features.vision.preprocessing import fit_of
from tests.features.made_photos import drawing, encoded

SIDE = 16384
BLANK = PhotoLimits(min_contrast=0)


def riff(chunk: bytes, body: bytes) -> bytes:
    whole = b"WEBP" + chunk + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def crafted_webp(kind: str) -> bytes:
    """A WebP of at most 60 bytes whose canvas is 16384 x 16384."""
    lossless = b"\x2f" + struct.pack("<I", (SIDE - 1) | (SIDE - 1) << 14) + bytes(11)
    if kind == "lossless":
        return riff(b"VP8L", lossless)
    if kind == "lossy":
        return riff(b"VP8 ", bytes([0x10, 0, 0, 0x9D, 1, 0x2A]) + struct.pack("<HH", SIDE - 1, SIDE - 1) + bytes(6))
    flags = 2 if kind == "animated" else 0
    canvas = struct.pack("<I", flags) + 2 * (SIDE - 1).to_bytes(3, "little")
    inner = riff(b"VP8L", lossless)[12:]
    return riff(b"VP8X", canvas + (b"ANIM" + struct.pack("<I", 6) + bytes(6) if flags else b"") + inner)


def png(width: int, height: int, depth: int, colour: int) -> bytes:
    """A PNG of zeros, as small as compression makes it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1 + width * channels * depth // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["lossless", "lossy", "extended", "animated"])
def test_the_canvas_of_a_webp_is_judged_before_it_is_opened(kind, monkeypatch):
    data = crafted_webp(kind)
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("opened"))
    found = decode(data, PhotoLimits())
    assert isinstance(found, Rejection)
    assert found.reason == "too_large"
    assert len(data) <= 72


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"save_all": True}])
def test_the_canvas_is_that_which_pillow_reads(options):
    data = encoded(drawing(size=(61, 43)), "WEBP", append_images=[drawing("blue", size=(61, 43))], **options)
    assert webp_canvas(data) == (61, 43)
    assert not isinstance(decode(data, PhotoLimits()), Rejection)


def test_a_photo_above_the_budget_alone_is_too_large():
    data = png(2000, 1500, 16, 6)
    found = decode(data, PhotoLimits(max_decode_megabytes=16, min_contrast=0))
    assert isinstance(found, Rejection)
    assert (found.reason, found.detail) == ("too_large", "39 MB of memory to decode it")
    assert not isinstance(decode(data, BLANK), Rejection)


def test_a_tiff_with_an_absurd_tile_is_too_large():
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60000, 323: 60000, 324: 8, 325: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(40)
    assert decode(data, PhotoLimits()).reason == "too_large"  # type: ignore[union-attr]


@pytest.mark.parametrize("processes", [None, multiprocessing.get_context("spawn")])
def test_a_photo_waits_until_its_share_is_free(processes):
    budget, order = MemoryBudget(100, processes), []

    def second() -> None:
        with budget.share() as take:
            take(60)
            order.append("second")

    with budget.share() as take:
        take(70)
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(10)
    assert (order, budget.left) == (["first", "second"], 100)


def test_a_share_is_returned_after_an_error():
    budget = MemoryBudget(100)

    def fail() -> None:
        with budget.share() as take:
            take(1000)
            _ = 1 // budget.left

    with pytest.raises(ZeroDivisionError):
        fail()
    assert budget.left == 100


_CHILD = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from features.vision.decode_memory import MemoryBudget
from features.vision.image_decoding import PhotoLimits, Rejection, decode
folder, megabytes = Path(sys.argv[1]), int(sys.argv[2])
limits = PhotoLimits(min_contrast=0, max_decode_megabytes=megabytes)
budget = MemoryBudget(megabytes * 10**6)
files = [path.read_bytes() for path in sorted(folder.iterdir())]
def work(data):
    with budget.share() as take:
        return isinstance(decode(data, limits, None, take), Rejection)
work(files[-1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as pool:
    refused = sum(pool.map(work, files[:-1]))
print(refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


def test_eight_threads_stay_within_one_budget(tmp_path):
    for number, (depth, colour) in enumerate([(16, 6), (16, 0), (8, 4), (16, 2)] * 4):
        (tmp_path / f"{number:02d}").write_bytes(png(2600, 2000, depth, colour))
    for number in range(8):
        (tmp_path / f"w{number}").write_bytes(crafted_webp(["lossless", "animated"][number % 2]))
    (tmp_path / "z").write_bytes(png(32, 32, 16, 6))
    ran = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path), "100"], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    refused, grown = map(int, ran.stdout.split())
    assert refused == 8
    assert grown <= 100 + 60  # about 45 MB each: eight at once take 300 MB


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_feeder_shares_its_budget(kind, tmp_path):
    for number in range(4):
        (tmp_path / f"B{number}.png").write_bytes(png(1000, 1000, 8, 6 if number else 2))
    (tmp_path / "B4.png").write_bytes(png(3000, 3000, 16, 6))
    store = PhotoStore(tmp_path)
    from hashlib import sha256

    jobs = [
        Job(digest=sha256(store.bytes(f"B{n}") or b"").hexdigest(), photo=store.photos_of(f"B{n}")[0]) for n in range(5)
    ]
    recipe = Recipe(
        fit=fit_of({"size": 16}), limits=PhotoLimits(min_contrast=0, max_decode_megabytes=16), shrink_to=None
    )
    with Feeder(recipe, batch_size=4, workers=2, kind=kind, device="cpu") as feeder:  # type: ignore[arg-type]
        outcomes = [outcome for batch in feeder.batches(jobs) for outcome in batch.outcomes]
    assert [outcome.rejection.reason if outcome.rejection else None for outcome in outcomes] == [None] * 4 + [
        "too_large"
    ]
