"""How near features are to open_clip's own single-image path: for every alias, and for JPEGs that are decoded smaller.

Enters: a folder of real photos. Leaves: one JSON object on standard output.
Trade-off: weights are untrained, so draft decoding is judged by pixels as well, and by features less their mean beside
the distance of two different photos: the common part of untrained features would flatter any shortcut.

    .venv/bin/python -m benchmarks.image_fidelity FOLDER aliases     # 3 GB of memory for ViT-L-14
    .venv/bin/python -m benchmarks.image_fidelity FOLDER draft
"""

import argparse
import io
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from features.encoders.config import ClipParams
from features.encoders.encoder import ImageEncoder
from features.encoders.loading import load_image_encoder
from features.encoders.registry import ALIASES
from features.vision.image_decoding import Decoded, PhotoLimits, decode

TILES = 4  # photos along each side of a mosaic: real texture at a size that the photos themselves do not have
NUM_MOSAICS = 12


def aliases(photos: Sequence[Path]) -> dict[str, Any]:
    """By alias: the largest difference to open_clip's path, and the cosine that float16 storage costs."""
    found = {}
    images = [Image.open(path).convert("RGB") for path in photos[:2]]
    for alias, name in ALIASES.items():
        encoder = load_image_encoder(ClipParams(model=alias, pretrained="untrained", seed=3, device="cpu", threads=0))
        ours = encoder.encode_images([*images, *images[:1]])
        del encoder
        torch.manual_seed(3)
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained_text=False)
        with torch.inference_mode():
            theirs = np.stack([
                model.eval().encode_image(preprocess(image)[None], normalize=True)[0].numpy() for image in images
            ])  # fmt: skip
        del model
        stored = ours[:2].astype(np.float16).astype(np.float32)
        cosines = (stored * theirs).sum(axis=1) / np.linalg.norm(stored, axis=1)
        found[alias] = {
            "width": ours.shape[1],
            "largest_difference": float(np.abs(ours[:2] - theirs).max()),
            "same_in_another_place_of_the_batch": bool(np.array_equal(ours[0], ours[2])),
            "cosine_lost_by_float16": float(max(0.0, 1 - cosines.min())),
        }
    return found


def mosaics(photos: Sequence[Path]) -> list[Image.Image]:
    """Large pictures of real texture."""
    made = []
    for number in range(NUM_MOSAICS):
        sheet = Image.new("RGB", (TILES * 400, TILES * 530))
        for tile in range(TILES**2):
            photo = Image.open(photos[(number * TILES**2 + tile) % len(photos)]).convert("RGB").resize((400, 530))
            sheet.paste(photo, (400 * (tile % TILES), 530 * (tile // TILES)))
        made.append(sheet)
    return made


def seen(encoder: ImageEncoder, files: Sequence[bytes], shrink_to: int | None) -> tuple[np.ndarray, float]:
    """The pixels that the encoder gets (N, H, W, 3), and the CPU milliseconds of decoding and resizing one."""
    started, rows = time.process_time(), []
    for data in files:
        found = decode(data, PhotoLimits(), shrink_to)
        assert isinstance(found, Decoded)
        rows.append(encoder.fit(found.image, found.whole))
    return np.stack(rows), round((time.process_time() - started) / len(files) * 1e3, 1)


def draft(photos: Sequence[Path]) -> list[dict[str, Any]]:
    """By how much smaller a JPEG is decoded, and how many times the input's size is left: what it costs and saves."""
    encoder = load_image_encoder(ClipParams(model="vitb32", pretrained="untrained", device="cpu", threads=0))
    sheets, found = mosaics(photos), []
    for scale in (2, 4):
        for left in (1.0, 1.5, 2.0, 3.0):
            side = round(encoder.fit.width * scale * left)
            if side > TILES * 400:
                continue
            files = []
            for sheet in sheets:
                buffer = io.BytesIO()
                sheet.resize((side, side * 530 // 400), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
                files.append(buffer.getvalue())
            whole, slow = seen(encoder, files, None)
            small, quick = seen(encoder, files, side // scale)
            ours, exact = (encoder.start(torch.from_numpy(pixels))() for pixels in (small, whole))
            middle = exact.mean(axis=0)
            apart = [np.linalg.norm(a - b) for i, a in enumerate(exact) for b in exact[:i]]
            found.append({
                "decoded_at": f"1/{scale}",
                "times_the_input": left,
                "source_side": side,
                "pixel_rms": round(float(np.sqrt(((whole.astype(float) - small) ** 2).mean())), 2),
                "smallest_cosine": round(float((ours * exact).sum(axis=1).min()), 6),
                "moved_beside_two_photos_apart": round(
                    float(np.linalg.norm(ours - exact, axis=1).max() / np.median(apart)), 4
                ),
                "centred_cosine": round(float(min(
                    (a - middle) @ (b - middle) / np.linalg.norm(a - middle) / np.linalg.norm(b - middle)
                    for a, b in zip(ours, exact, strict=True)
                )), 5),
                "milliseconds": [slow, quick],
            })  # fmt: skip
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("photos", type=Path, help="folder with JPEGs")
    parser.add_argument("what", choices=("aliases", "draft"))
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    photos = sorted(arguments.photos.rglob("*.jpg"))
    print(json.dumps({"aliases": aliases, "draft": draft}[arguments.what](photos), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
