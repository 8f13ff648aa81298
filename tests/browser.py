"""Headless Chromium for tests of pages: what a page's script reports, or a picture of it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Returns the path of Chromium, or skips the test."""
    path = next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        pytest.skip(f"no browser on PATH ({', '.join(NAMES)}); pages are laid out in CI images that have one")
    return path


def show(page: Path, folder: Path, *options: str) -> str:
    """Opens a page with a profile in `folder` and returns what Chromium prints."""
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--disable-dev-shm-usage", f"--user-data-dir={folder / 'browser'}", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def reported(page: Path, folder: Path, *options: str) -> Any:
    """Returns the JSON that the page's script writes into its element `<pre id="found">`."""
    printed = show(
        page, folder, "--allow-file-access-from-files", "--hide-scrollbars", *options, "--virtual-time-budget=5000",
        "--dump-dom",
    )  # fmt: skip
    text = re.search(r'<pre id="found">(.+?)</pre>', printed)
    assert text, printed[-2000:]
    return json.loads(html.unescape(text[1]))
