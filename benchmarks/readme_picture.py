"""The picture of the README: the page that `modeling.recommend` writes, as Chromium draws it.

Reads the finished run of the sample (`make demo`). Writes `docs/images/recommendations.png`, at most 150 kB.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from features.errors import InputError
from features.runtime.stage import configure_logging

log = logging.getLogger("vip5")
USER = "AC2A108L8PRCL1"
"""A user of the sample who bought the first of the five next, and whose items all have photos."""
SIZE = (760, 795)
"""Pixels: the history and the first five recommendations."""
MAX_BYTES = 150_000


def take_picture(user: str, chromium: str, target: Path) -> int:
    """Writes the picture and returns its size in bytes.

    Raises:
        InputError: the picture is larger than 150 kB.
    """
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        recommend = [sys.executable, "-m", "modeling.recommend", "--user", user, "--held-out", "--page", str(page)]
        subprocess.run(recommend, check=True, stdout=subprocess.DEVNULL)
        width, height = SIZE
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={width},{height}",
        ]
        command = [chromium, *options, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(shot).convert("RGB").quantize(128).save(target, optimize=True)
    size = target.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{target} with {size:,} bytes", f"at most {MAX_BYTES:,} bytes", "lower the number of colours")
    return size


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme_picture", description=__doc__)
    parser.add_argument("--user", default=USER, help="key of a user of the sample")
    parser.add_argument("--chromium", default="chromium", help="program that draws the page")
    parser.add_argument("--out", type=Path, default=Path("docs/images/recommendations.png"), help="file to write")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        size = take_picture(arguments.user, arguments.chromium, arguments.out)
    except InputError as error:
        log.error("readme_picture: %s", error)
        return error.exit_code
    log.info("readme_picture: %s, %d bytes", arguments.out, size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
