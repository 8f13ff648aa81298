"""How fast photos become a Parquet table of features, beside the bare forward pass of the same encoder.

Enters: a folder of real photos. Leaves: JSON objects on standard output, one a line: the machine and the photos, then
one for each model as soon as it is measured; on standard error a line a turn.
Trade-off: pipeline and bare forward pass take turns, so that a machine that others share slows both alike. Every turn
of the pipeline starts with nothing decoded and ends with everything filed, which counts against it: a turn must be
long beside one batch. On a CPU four batches are; beside a GPU take 32 of 256, a few seconds.

Photos are cropped a little differently until there are enough, no two of them equal. The pipeline is what the stage
`images` does once the encoder is loaded: reading and hashing a little ahead of the encoder and beside it, verifying,
decoding, resizing, encoding, filing shards, and at the end the merge and the table; the bare pass is `encode_image`
on one prepared batch. Decoders are started and measured alone beforehand, and stay for the next model where its
preprocessing is the same. The weights are untrained, which costs the same arithmetic. At the end one batch of photos
from all over the table is decoded and encoded again, one photo after the other, and compared.

    .venv/bin/python -m benchmarks.images FOLDER [--count 2048] [--model vitb32] [--batch-size 64] [--threads 0]
    .venv/bin/python -m benchmarks.images FOLDER --count 50000 --model vitb32 vitl14 --batch-size 256 --turn 32 \
        --decoders processes --photos-in /dev/shm --seconds 90 --peak 990
"""

import argparse
import json
import logging
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arithmetic import counted, product_rate
from benchmarks.measured import python
from features.encoders.config import ClipParams
from features.encoders.embedding_cache import Shards
from features.encoders.encode_loop import CacheWriter, encode_photos
from features.encoders.encoder import ImageEncoder, cores
from features.encoders.loading import load_image_encoder
from features.images import Params
from features.schema import embeddings
from features.store.embeddings import vector_table
from features.store.tables import Provenance, write_table
from features.vision.image_decoding import PhotoLimits
from features.vision.image_loader import Feeder, Job, Recipe, prepare
from features.vision.photo_index import Features, IndexedPhoto, PhotoIndex, merge
from features.vision.photo_store import PhotoStore
from features.vision.preprocessing import normalised


class Clock:
    """Wall and CPU seconds (all threads, child processes that ended or live), summed over `with` blocks."""

    def __init__(self, device: str) -> None:
        self.device, self.wall, self.cpu = device, 0.0, 0.0

    def __enter__(self) -> None:
        self._wall, self._cpu = time.monotonic(), self._used()

    def __exit__(self, *_: object) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        self.wall += time.monotonic() - self._wall
        self.cpu += self._used() - self._cpu

    @staticmethod
    def _used() -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        living = 0
        for child in multiprocessing.active_children():
            after_name = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            living += int(after_name[11]) + int(after_name[12])
        return time.process_time() + ended.ru_utime + ended.ru_stime + living / os.sysconf("SC_CLK_TCK")


def bare_pass(encoder: ImageEncoder, batch: torch.Tensor, batches: int) -> None:
    """The forward pass alone."""
    with torch.inference_mode():
        for _ in range(batches):
            encoder.forward(batch)


def prepared(encoder: ImageEncoder, size: int) -> tuple[torch.Tensor, float]:
    """A batch of noise that the encoder has seen twice, and the GFLOP that it spends on one image."""
    pixels = torch.zeros((size, encoder.fit.height, encoder.fit.width, 3), dtype=torch.uint8).random_(0, 256)
    batch = normalised(pixels.to(encoder.device), encoder.fit).to(encoder.dtype)
    bare_pass(encoder, batch, 2)
    with counted() as counter:
        bare_pass(encoder, batch[:1], 1)
    return batch, counter.get_total_flops() / 1e9


class Run:
    """One encoder, its decoders and what they have made so far; one table at the end."""

    def __init__(self, folder: Path, work: Path, encoder: ImageEncoder, feeder: Feeder) -> None:
        self.encoder, self.feeder, self.work = encoder, feeder, work
        self.store = PhotoStore(folder)
        self.keys = self.store.keys()
        self.shards = Shards(work / "shards", encoder.width)
        self.bare, self.pipeline = (Clock(encoder.device) for _ in range(2))
        self.bare_images, self.waited_seconds, self.looked_seconds = 0, 0.0, 0.0
        self.seen: list[list[IndexedPhoto]] = []
        self.digests: list[str] = []

    def look_at(self, start: int, count: int) -> PhotoIndex:
        """The photos, of which nothing is read yet."""
        keys = self.keys[start : start + count]
        return PhotoIndex(keys, self.store, most=1, max_bytes=1e9, placeholders=(), workers=self.feeder.workers)

    def read(self, index: PhotoIndex) -> Iterator[Job]:
        """The photos to encode, read and hashed beside the encoder as the stage does; times what it waits for them."""
        jobs = index.wanted()
        while True:
            began = time.monotonic()
            job = next(jobs, None)
            self.looked_seconds += time.monotonic() - began
            if job is None:
                return
            yield job

    def decode_alone(self, count: int) -> float:
        """Photos a second that the decoders reach when nobody encodes."""
        jobs = list(self.look_at(0, count).wanted())
        clock = Clock(self.encoder.device)
        with clock:
            for _ in self.feeder.batches(jobs):
                pass
        return len(jobs) / clock.wall

    def bare_turn(self, batch: torch.Tensor, batches: int) -> None:
        """So many batches of the forward pass."""
        with self.bare:
            bare_pass(self.encoder, batch, batches)
        self.bare_images += batches * len(batch)

    def pipeline_turn(self, count: int, per_shard: int) -> None:
        """The next `count` photos, from their bytes to finished shards."""
        waited = self.feeder.waited_seconds
        with self.pipeline:
            here = self.look_at(len(self.seen), count)
            writer = CacheWriter(shards=self.shards, per_shard=per_shard)
            encode_photos(self.read(here), self.encoder, writer, self.feeder, lambda: here.at_most)
        self.seen += here.photos_by_item
        self.digests += here.jobs
        self.waited_seconds += self.feeder.waited_seconds - waited

    def finish(self) -> Features:
        """The table of what was encoded."""
        with self.pipeline:
            features = merge(self.seen, self.shards.find(self.digests), max_items_per_photo=0, normalise=True)
            table = embeddings(self.encoder.width)
            columns: dict[str, Any] = {"status": features.statuses, "sha256": features.digests}
            numbers = np.arange(1, len(self.seen) + 1, dtype=np.int32)
            rows = vector_table(table, numbers, features.vectors, columns)
            write_table(self.work / "embeddings", table, rows, Provenance(stage="benchmark", params={}))
        assert features.statuses.count("ok") == len(self.seen) == len(set(features.digests))
        return features

    def compare(self, features: Features) -> dict[str, float]:
        """One batch of photos from all over the table, decoded here one after the other and encoded with no hurry."""
        fit, size = self.encoder.fit, self.feeder.batch_size
        places = np.unique(np.linspace(0, len(self.seen) - 1, size).astype(int))
        pixels = np.zeros((size, fit.height, fit.width, 3), np.uint8)
        for row, place in enumerate(places):
            (one,) = self.seen[place]
            prepare(Job(digest=str(one.digest), photo=one.photo), self.feeder.recipe, pixels[row])
        again = self.encoder.start(torch.from_numpy(pixels))()[: len(places)]
        found = features.vectors[places]
        cosines = (again * found).sum(axis=1)
        return {
            "compared": len(places),
            "largest_difference": float(np.abs(again - found).max()),
            "smallest_cosine": float(cosines.min()),
            "median_difference_of_two_photos": float(np.median(np.abs(again[1:] - again[:-1]).max(axis=1))),
        }

    def told(self) -> dict[str, Any]:
        """What was measured so far."""
        done, pipeline, bare = len(self.seen), self.pipeline, self.bare
        return {
            "model": self.encoder.description["model"],
            "photos": done,
            "bare_images_a_second": round(self.bare_images / bare.wall, 2),
            "pipeline_images_a_second": round(done / pipeline.wall, 2),
            "ratio_of_wall_seconds": round(done / pipeline.wall * bare.wall / self.bare_images, 4),
            "ratio_of_cpu_seconds": round(done / pipeline.cpu * bare.cpu / self.bare_images, 4),
            "waited_for_decoding_share": round(self.waited_seconds / pipeline.wall, 4),
            "waited_for_reading_share": round(self.looked_seconds / pipeline.wall, 4),
            "bare_cpu_milliseconds_an_image": round(bare.cpu / self.bare_images * 1e3, 2),
            "pipeline_cpu_milliseconds_an_image": round(pipeline.cpu / done * 1e3, 2),
        }


def feeder_for(encoder: ImageEncoder, arguments: argparse.Namespace) -> Feeder:
    """The decoders that the command line asks for."""
    shrink_to = encoder.fit.draft_side(arguments.draft) if arguments.draft else None
    return Feeder(
        Recipe(fit=encoder.fit, limits=PhotoLimits(), shrink_to=shrink_to), batch_size=arguments.batch_size,
        workers=arguments.workers or cores(), kind=arguments.decoders, device=encoder.device, ahead=arguments.ahead,
    )  # fmt: skip


def measure(run: Run, arguments: argparse.Namespace, until: float) -> dict[str, Any]:
    """Pipeline and bare pass in turns of `--turn` batches; after `until` no further turn begins."""
    batch, gflop = prepared(run.encoder, arguments.batch_size)
    turn, began = arguments.turn * arguments.batch_size, time.monotonic()
    run.decode_alone(run.feeder.workers * 16)
    ready = time.monotonic() - began
    decoded = run.decode_alone(turn)
    while len(run.seen) < len(run.keys) and (not run.seen or time.monotonic() < until):
        run.bare_turn(batch, arguments.turn)
        run.pipeline_turn(turn, Params().photos_per_shard)
        print(json.dumps(run.told()), file=sys.stderr, flush=True)
    before = run.pipeline.wall
    features = run.finish()
    told, made = run.told(), run.pipeline.wall - before
    return told | run.compare(features) | {
        "table_share": round(made / run.pipeline.wall, 4),
        "decoders": f"{run.feeder.workers} {arguments.decoders}",
        "decoders_ready_seconds": round(ready, 2),
        "decoders_alone_images_a_second": round(decoded, 1),
        "gflop_an_image": round(gflop, 3),
        "bare_tflop_a_second": round(gflop * told["bare_images_a_second"] / 1e3, 3),
    }  # fmt: skip


def machine(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """What is measured on, with the rate of a large product there."""
    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else device,
        "cores": cores(),
        "torch": torch.__version__,
        "dtype": str(dtype),
        "product_tflop_a_second": round(product_rate(device, dtype, 8192 if on_gpu else 1024), 3),
    }


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("photos", type=Path, help="folder with JPEGs")
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--model", nargs="+", default=["vitb32"], help="one or more, on the same photos")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of the encoder; 0: one a core")
    parser.add_argument("--workers", type=int, default=0, help="that decode; 0: one a core")
    parser.add_argument("--decoders", choices=("threads", "processes"), default="threads")
    parser.add_argument("--ahead", type=int, help="batches decoded ahead; default: as the stage does")
    parser.add_argument("--draft", type=float, default=2.0)
    parser.add_argument("--enlarge", type=int, default=1, help="whole number of times, for dumps with larger photos")
    parser.add_argument("--turn", type=int, default=4, help="batches before the other one's turn")
    parser.add_argument("--seconds", type=float, default=1e9, help="after the start, when no further turn begins")
    parser.add_argument("--photos-in", type=Path, help="where the photos are made; default: a temporary folder")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the data sheet, to give the bare pass as a share of it")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements."""
    arguments, began = arguments_of(argv), time.monotonic()
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory(dir=arguments.photos_in) as folder,
        tempfile.TemporaryDirectory() as work,
        ExitStack() as feeders,
    ):
        made = python("-m", "benchmarks.crops", str(arguments.photos), folder, "--count", str(arguments.count))
        sizes = json.loads(subprocess.check_output([*made, "--enlarge", str(arguments.enlarge)]))
        sizes["made_in_seconds"] = round(time.monotonic() - began, 2)
        about: dict[str, Any] = {}
        feeder: Feeder | None = None
        for place, model in enumerate(arguments.model):
            since = time.monotonic()
            encoder = load_image_encoder(
                ClipParams(model=model, pretrained="untrained", device=arguments.device, threads=arguments.threads)
            )
            loaded = {"loaded_in_seconds": round(time.monotonic() - since, 2)}
            if not about:
                about = machine(encoder.device, encoder.dtype)
                print(json.dumps(about | sizes), flush=True)
            if feeder is None or feeder.recipe.fit.description != encoder.fit.description:
                feeder = feeders.enter_context(feeder_for(encoder, arguments))
            run = Run(Path(folder), Path(work) / str(place), encoder, feeder)
            found = measure(run, arguments, began + arguments.seconds)
            shares = {"share_of_product": about["product_tflop_a_second"], "share_of_peak": arguments.peak}
            loaded |= {name: round(found["bare_tflop_a_second"] / rate, 4) for name, rate in shares.items() if rate}
            print(json.dumps(found | loaded), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
