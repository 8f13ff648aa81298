"""Retrains a tiny pipeline under random faults and checks that nobody has to repair anything.

    .venv/bin/python -m benchmarks.chaos --minutes 30

Each round changes a parameter, starts `flows.retrain` and does one of: kill it and all its children, fill the disk, run
two at once, let the Prefect server die under it, send SIGTERM. Then the champion is compared with its checksums, and
the next run must end with 0 and with the very model and metrics that the same parameters gave without a fault.
Works in a clone of the last commit, on a file system of its own in memory (needs the right to mount; without it no disk
is filled). Prints a line per round and a summary; exit code 1 if a person would have been needed or a byte was wrong.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = (
    "++sample.num_users=120", "++sample.items_per_cell=2", "++candidates.num_negatives=20",
    "prompts.num_candidates=10", "++pretrain.schedule.max_steps=5", "++train.schedule.max_steps=5",
    "++evaluate.sasrec=null", "++evaluate.bootstrap_resamples=50",
    "++retrain.gate.may_lose_to=[popularity,item_knn,title_bm25]",
)  # fmt: skip
RETRAIN = ("-m", "flows.retrain", "sample")
DISK_MEGABYTES = 700
LIMIT_SECONDS = 300.0
NO_CHAMPION = "no champion"
MADE = ("models/sample/train/trained.safetensors", "metrics/sample/evaluate.json")


@dataclass
class Workspace:
    """A clone in which the pipeline has run once; what each variant of the parameters gives without a fault."""

    folder: Path
    draw: random.Random
    own_disk: bool
    expected: dict[int, dict[str, str]] = field(default_factory=dict)

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Starts Python in the clone, in a process group of its own, its output in one text."""
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.folder, env=environment(self.folder, **more), text=True,
            errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def set_variant(self, number: int) -> None:
        """Writes the parameters of a variant; every other time DVC must compute its stages again."""
        apply(self.folder, f"++train.optimizer.learning_rate={0.001 + number / 10_000:.4f}")
        if self.draw.random() < 0.5:
            for runs in self.folder.rglob("cache/runs"):
                shutil.rmtree(runs, ignore_errors=True)

    def forget_champion(self) -> bool:
        """Every other time removes the champion, so that the run promotes its model; returns whether it did."""
        forgotten = self.draw.random() < 0.5
        if forgotten:
            (self.folder / "models/sample/champion.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder / "models/sample/champions", ignore_errors=True)
        return forgotten

    def made(self) -> dict[str, str]:
        """SHA-256 of the trained model and of its metrics."""
        return {name: hashlib.sha256((self.folder / name).read_bytes()).hexdigest() for name in MADE}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A login shell's variables, with a home folder of its own."""
    hidden = ("VIP5_", "PREFECT_", "DVC_", "PYTEST", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"HOME": str(folder.parent / "home"), "OMP_NUM_THREADS": "1"} | more


def apply(folder: Path, *overrides: str) -> None:
    """Sets values in the clone's params.yaml, as `dvc exp run -S` writes them."""
    from dvc.utils.hydra import apply_overrides

    apply_overrides(folder / "params.yaml", list(overrides))


def ended(child: subprocess.Popen[str], within: float = LIMIT_SECONDS) -> tuple[int, str]:
    """Waits for the end of a command; one that hangs is killed and has the code -1."""
    try:
        text, _ = child.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        end_group(child, signal.SIGKILL)
        text, _ = child.communicate()
        return -1, text
    return child.returncode, text


def end_group(child: subprocess.Popen[str], number: int) -> None:
    """Sends a signal to a command and all its children."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def killed(place: Workspace) -> str:
    """SIGKILL at a random moment, as the kernel does when memory runs out."""
    child = place.start(*RETRAIN, "--plain")
    time.sleep(place.draw.uniform(0.5, 40))
    end_group(child, signal.SIGKILL)
    return f"ended with {ended(child)[0]}"


def terminated(place: Workspace) -> str:
    """SIGTERM to the command alone, as a service manager does."""
    child = place.start(*RETRAIN, "--plain")
    time.sleep(place.draw.uniform(0.5, 40))
    child.terminate()
    return f"ended with {ended(child)[0]}"


def full_disk(place: Workspace) -> str:
    """All but a random rest of the file system is taken while the command runs."""
    if not place.own_disk:
        return "not done: no file system of its own"
    child = place.start(*RETRAIN, "--plain")
    time.sleep(place.draw.uniform(0, 20))
    rest = place.draw.choice([0, 4_096, 100_000, 2_000_000])
    filler = place.folder / "filler"
    with suppress(OSError), filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(shutil.disk_usage(place.folder).free - rest, 1))
    code, text = ended(child)
    filler.unlink()
    traced = " with a traceback" if "Traceback" in text else ""
    return f"{rest:,} bytes left, ended with {code}{traced}"


def two_at_once(place: Workspace) -> str:
    """A second run that does not wait."""
    first = place.start(*RETRAIN, "--plain")
    time.sleep(place.draw.uniform(0, 10))
    second = place.start(*RETRAIN, "--plain", "--wait", "0")
    codes = sorted(ended(child)[0] for child in (second, first))
    return f"ended with {codes}"


def dead_server(place: Workspace) -> str:
    """The Prefect server that records the run is killed under it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {"PREFECT_HOME": str(place.folder.parent / f"prefect-{port}")}
    server = place.start("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), **home)
    url, deadline = f"http://127.0.0.1:{port}/api", time.monotonic() + 90
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            break
        time.sleep(0.5)
    child = place.start(*RETRAIN, PREFECT_API_URL=url, **home)
    time.sleep(place.draw.uniform(5, 40))
    end_group(server, signal.SIGKILL)
    server.communicate()
    code, text = ended(child)
    return f"ended with {code}{' with a traceback' if 'Traceback' in text else ''}"


FAULTS = (killed, killed, terminated, full_disk, two_at_once, dead_server)


def champion_fault(folder: Path) -> str | None:
    """What is wrong with the champion, recomputed from its files alone; None if nothing is."""
    pointer = folder / "models/sample/champion.json"
    if not pointer.exists():
        return NO_CHAMPION
    sealed = folder / "models/sample" / json.loads(pointer.read_text())["folder"]
    manifest = (sealed / "champion_manifest.json").read_bytes()
    if hashlib.sha256(manifest).hexdigest()[:16] != sealed.name:
        return f"{sealed.name} is not the digest of its manifest"
    for name, entry in json.loads(manifest)["files"].items():
        if hashlib.sha256((sealed / name).read_bytes()).hexdigest() != entry["sha256"]:
            return f"{name} has another checksum"
    return None


def next_run(place: Workspace, number: int) -> str | None:
    """Runs once without a fault; returns what a person would have to repair, or None."""
    code, text = ended(place.start(*RETRAIN, "--plain"))
    if code:
        return f"the next run ended with {code}: {text.strip().splitlines()[-1] if text.strip() else ''}"
    made = place.made()
    if place.expected.setdefault(number, made) != made:
        return "WRONG BYTES: " + ", ".join(name for name in MADE if made[name] != place.expected[number][name])
    return champion_fault(place.folder)


@contextmanager
def workspace(seed: int, variants: int) -> Iterator[Workspace]:
    """A clone of the last commit on a file system of its own, where that can be mounted, after a first champion."""
    outer = Path(tempfile.mkdtemp(prefix="chaos-"))
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(outer)]
    own_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        folder = outer / "clone"
        (outer / "home").mkdir()
        (outer / "home/.gitconfig").write_text("[user]\n\tname = Chaos\n\temail = chaos@example.org\n")
        subprocess.run(
            [shutil.which("git") or "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True
        )
        (folder / ".venv").symlink_to(sys.prefix)
        place = Workspace(folder, random.Random(seed), own_disk)
        apply(folder, *SMALL)
        for number in range(variants):
            place.set_variant(number)
            wrong = next_run(place, number)
            if wrong:
                raise SystemExit(f"chaos: without any fault: {wrong}")
            print(f"variant {number}: {place.expected[number]}", flush=True)
        yield place
    finally:
        if own_disk:
            subprocess.run([shutil.which("umount") or "umount", "--lazy", str(outer)], check=False)
        shutil.rmtree(outer, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs rounds until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--variants", type=int, default=4, help="values of the parameter that changes; each is run first"
    )
    arguments = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * arguments.minutes
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    with workspace(arguments.seed, arguments.variants) as place:
        while time.monotonic() < deadline:
            number, fault = place.draw.randrange(arguments.variants), place.draw.choice(FAULTS)
            place.set_variant(number)
            forgotten = place.forget_champion()
            what = fault(place)
            found = champion_fault(place.folder)
            if found is None or (forgotten and found == NO_CHAMPION):
                found = next_run(place, number)
            kinds[fault.__name__] += 1
            print(f"round {kinds.total()}: {fault.__name__}: {what}; {found or 'nothing to repair'}", flush=True)
            if found:
                wrong.append(f"{fault.__name__}: {found}")
    print(json.dumps({
        "rounds": kinds.total(), "faults": dict(kinds), "interventions": sum("WRONG" not in line for line in wrong),
        "wrong_bytes": sum("WRONG" in line for line in wrong), "found": wrong,
    }))  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
