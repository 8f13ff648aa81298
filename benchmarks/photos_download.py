"""Photos by address beside a bare concurrent client, in one run: `python -m benchmarks.photos_download`.

Enters: nothing; a server process of its own holds made-up photos in memory. Leaves: a table and the ratios on standard
output. The bare clients (the same number of requests under way) read the bytes and forget them, or write each photo to
a file of its own; ours checks every hop, looks at the header, digests, writes photo and outcome, and awaits the disk.
Trade-off: client and server share the cores, so rates are far below those of two machines; the ratio within one run is
the figure.
"""

import argparse
import asyncio
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import httpx
import numpy as np
from aiohttp import web
from PIL import Image

from features.runtime.seeds import rng
from flows.download.http_client import IngestParams, PhotoLimits
from flows.download.photo_download import PhotoRequest, fetch_photos


def photo(number: int, side: int) -> bytes:
    """A JPEG of noise that no other number gives."""
    pixels = rng(1, "photo", number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return stream.getvalue()


def serve(pipe: Connection, num_distinct: int, side: int) -> None:
    """Serves photos at /N.jpg until killed; tells its port through `pipe`."""
    photos = [photo(number, side) for number in range(num_distinct)]

    async def answer(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        return web.Response(body=photos[number % num_distinct], content_type="image/jpeg", headers={"ETag": '"1"'})

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{number}.jpg", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send((runner.addresses[0][1], sum(map(len, photos)) / num_distinct))
        await asyncio.Event().wait()

    asyncio.run(run())


async def bare_aiohttp(urls: list[str], width: int, folder: Path | None = None) -> int:
    """Bytes read by a bare aiohttp client, written to `folder` where one is given."""
    total = 0
    connector = aiohttp.TCPConnector(limit=width)
    async with aiohttp.ClientSession(connector=connector) as session:
        queue = iter(urls)

        async def worker() -> None:
            nonlocal total
            for url in queue:
                async with session.get(url) as response:
                    data = await response.read()
                total += len(data)
                if folder is not None:
                    (folder / url.rpartition("/")[2]).write_bytes(data)

        await asyncio.gather(*(worker() for _ in range(width)))
    return total


async def bare_httpx(urls: list[str], width: int) -> int:
    """Bytes read by a bare httpx client."""
    total = 0
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=width), trust_env=False) as session:
        queue = iter(urls)

        async def worker() -> None:
            nonlocal total
            for url in queue:
                total += len((await session.get(url)).content)

        await asyncio.gather(*(worker() for _ in range(width)))
    return total


def ours(urls: list[str], width: int, folder: Path) -> int:
    """Photos fetched by flows.download.photo_download into `folder`, written and on record."""
    limits = PhotoLimits(per_host=width, rate=0)
    config = IngestParams(private_hosts=("127.0.0.1",), min_free_disk_bytes=0, photos=limits)
    wanted = [PhotoRequest(item_key=f"B{number:09d}", url=url) for number, url in enumerate(urls)]
    counts = fetch_photos(wanted, folder, config)
    assert counts == {"fetched": len(urls)}, counts
    return len(urls)


def main() -> None:
    """Prints photos and CPU-seconds of each, in alternation, and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=160, help="pixels; 160 gives about 11 KB")
    parser.add_argument("--width", type=int, default=32, help="requests under way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-httpx", action="store_true", help="leave out the slower of the two bare clients")
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there, 500, arguments.side), daemon=True)
    server.start()
    port, mean_bytes = here.recv()
    urls = [f"http://127.0.0.1:{port}/{number}.jpg" for number in range(arguments.photos)]
    print(f"{len(urls):,} photos of {mean_bytes:,.0f} bytes on average, {arguments.width} under way")
    clients: dict[str, Callable[[Path], int]] = {
        "bare aiohttp": lambda _: asyncio.run(bare_aiohttp(urls, arguments.width)),
        "bare aiohttp, to files": lambda folder: asyncio.run(bare_aiohttp(urls, arguments.width, folder)),
        "bare httpx": lambda _: asyncio.run(bare_httpx(urls, arguments.width)),
        "flows.download.photo_download": lambda folder: ours(urls, arguments.width, folder),
    }
    if arguments.no_httpx:
        del clients["bare httpx"]
    rates: dict[str, list[float]] = {name: [] for name in clients}
    cpu: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(arguments.repeats):
        for name, fetch in clients.items():
            with tempfile.TemporaryDirectory() as folder:
                wall, used = time.perf_counter(), time.process_time()
                fetch(Path(folder))
                rates[name].append(len(urls) / (time.perf_counter() - wall))
                cpu[name].append((time.process_time() - used) / len(urls) * 1e6)
    server.terminate()
    for name in clients:
        print(
            f"{name:24} {np.median(rates[name]):8,.0f} photos/s {np.median(cpu[name]):8,.0f} CPU-microseconds a photo"
        )
    for name in [name for name in clients if name.startswith("bare")]:
        ratios = [ours_ / bare for ours_, bare in zip(rates["flows.download.photo_download"], rates[name], strict=True)]
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"flows.download.photo_download / {name}: {np.median(ratios):.2f} ({told})")


if __name__ == "__main__":
    main()
