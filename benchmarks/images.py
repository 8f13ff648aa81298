"""How fast photos become a Parquet table of features, beside the bare forward pass of the same encoder.

Enters: a folder of real photos. Leaves: one JSON object on standard output.
Trade-off: pipeline and bare forward pass take turns on a few batches at a time, so that a machine that others share
slows both alike; the weights are untrained, which costs the same arithmetic.

Photos are cropped a little differently until there are enough, no two of them equal. The pipeline is what the stage
`images` does once the encoder is loaded: reading, hashing, verifying, decoding, resizing, encoding, filing shards, and
at the end the merge and the table; the bare pass is `encode_image` on one prepared batch.

    python -m benchmarks.images FOLDER [--count 2048] [--model vitb32] [--batch-size 64] [--threads 0]
"""

import argparse
import json
import logging
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from features.clip import ClipParams, Encoder, cores, load_encoder
from features.encoding import Filing, encode_photos
from features.feeding import Feeder, Recipe
from features.images import Params
from features.photo_plan import jobs_of, look, merge
from features.photos import PhotoStore
from features.pixels import normalised
from features.schema import embeddings
from features.shards import Shards
from features.tables import Provenance, write_table
from features.vectors import vector_table


def make_photos(source: Path, folder: Path, count: int, enlarge: int) -> dict[str, float]:
    """Writes `count` different photos and says how large they are."""
    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    num_bytes, megapixels = 0, 0.0
    for number in range(count):
        turn, place = divmod(number, len(originals))
        with Image.open(originals[place]) as opened:
            image = opened.convert("RGB")
        image = image.crop((turn, turn // 2, image.width - turn % 3, image.height))
        if enlarge > 1:
            image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.BICUBIC)
        path = folder / f"P{number:06d}.jpg"
        image.save(path, quality=85)
        num_bytes += path.stat().st_size
        megapixels += image.width * image.height / 1e6
    return {"kilobytes_each": round(num_bytes / count / 1e3, 1), "megapixels_each": round(megapixels / count, 3)}


class Clock:
    """Wall and CPU seconds (all threads, and child processes that ended), summed over `with` blocks."""

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
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime


def bare_pass(encoder: Encoder, batch: torch.Tensor, batches: int) -> None:
    """The forward pass alone."""
    with torch.inference_mode():
        for _ in range(batches):
            encoder.model.encode_image(batch)


def measure(folder: Path, work: Path, encoder: Encoder, arguments: argparse.Namespace) -> dict[str, Any]:
    """Pipeline and bare pass in turns of `--turn` batches."""
    params = Params(batch_size=arguments.batch_size, workers=arguments.workers, draft=arguments.draft)
    store = PhotoStore(folder)
    keys = store.keys()
    recipe = Recipe(
        fit=encoder.fit,
        limits=params.limits,
        shrink_to=encoder.fit.draft_side(params.draft) if params.draft else None,
    )
    shards = Shards(work / "shards", encoder.width)
    pixels = torch.zeros((arguments.batch_size, encoder.fit.height, encoder.fit.width, 3), dtype=torch.uint8)
    batch = normalised(pixels.random_(0, 256).to(encoder.device), encoder.fit).to(encoder.dtype)
    bare_pass(encoder, batch, 2)
    bare, pipeline, waited, seen = Clock(encoder.device), Clock(encoder.device), 0.0, []
    workers = params.workers or cores()
    step = arguments.turn * arguments.batch_size
    with Feeder(
        recipe, batch_size=params.batch_size, workers=workers, kind=arguments.decoders, device=encoder.device,
        ahead=arguments.ahead,
    ) as feeder:  # fmt: skip
        for start in range(0, len(keys), step):
            with bare:
                bare_pass(encoder, batch, arguments.turn)
            with pipeline:
                here = look(
                    keys[start : start + step], store, most=1, max_bytes=1e9, placeholders=(), workers=workers
                )  # fmt: skip
                filing = Filing(shards=shards, per_shard=params.photos_per_shard)
                encode_photos(list(jobs_of(here).values()), encoder, filing, feeder)
                seen += here
        waited = feeder.waited_seconds
    with pipeline:
        features = merge(seen, shards.find(jobs_of(seen)), max_sharing=0, normalise=True)
        table = embeddings(encoder.width)
        columns: dict[str, Any] = {"status": features.statuses, "sha256": features.digests}
        rows = vector_table(table, np.arange(1, len(keys) + 1, dtype=np.int32), features.vectors, columns)
        write_table(work / "embeddings", table, rows, Provenance(stage="benchmark", params={}))
    assert features.statuses.count("ok") == len(keys) == len(set(features.digests))
    with FlopCounterMode(display=False) as counter:
        bare_pass(encoder, batch, 1)
    done = len(keys)
    return {
        "photos": done,
        "bare_images_a_second": round(done / bare.wall, 2),
        "pipeline_images_a_second": round(done / pipeline.wall, 2),
        "ratio_of_wall_seconds": round(bare.wall / pipeline.wall, 4),
        "ratio_of_cpu_seconds": round(bare.cpu / pipeline.cpu, 4),
        "waited_for_decoding_share": round(waited / pipeline.wall, 4),
        "bare_cpu_milliseconds_an_image": round(bare.cpu / done * 1e3, 2),
        "pipeline_cpu_milliseconds_an_image": round(pipeline.cpu / done * 1e3, 2),
        "bare_gflop_a_second": round(counter.get_total_flops() * done / arguments.batch_size / bare.wall / 1e9, 1),
        "decoders": f"{workers} {arguments.decoders}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("photos", type=Path, help="folder with JPEGs")
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--model", default="vitb32")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of the encoder; 0: one a core")
    parser.add_argument("--workers", type=int, default=0, help="that decode; 0: one a core")
    parser.add_argument("--decoders", choices=("threads", "processes"), default="threads")
    parser.add_argument("--ahead", type=int, help="batches decoded ahead; default: as the stage does")
    parser.add_argument("--draft", type=float, default=4.0)
    parser.add_argument("--enlarge", type=int, default=1, help="whole number of times, for dumps with larger photos")
    parser.add_argument("--turn", type=int, default=4, help="batches before the other one's turn")
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    encoder = load_encoder(
        ClipParams(
            model=arguments.model, pretrained="untrained", device=arguments.device, threads=arguments.threads
        )
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        sizes = make_photos(arguments.photos, folder, arguments.count, arguments.enlarge)
        found = measure(folder, Path(temporary), encoder, arguments)
    print(json.dumps({"model": arguments.model, "device": encoder.device, **sizes, **found}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
