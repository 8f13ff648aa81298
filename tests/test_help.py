"""`--help` of every command: names the command as it is typed, has a description, and takes under a second."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "features", "modeling", "flows")
COMMANDS = [
    f"{package}.{path.stem}"
    for package in PACKAGES
    for path in sorted((ROOT / package).glob("*.py"))
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    and path.stem not in {"deployments", "guarded"}  # processes of flows.serve, not started by users
]
LEAKED = re.compile(r"\b[Rr]eturns? (the|its|an?) |\.\.\.\w|Args:|Raises:|\bNone\b|`\"\"\"`")


def test_there_are_commands_in_every_package() -> None:
    assert {name.partition(".")[0] for name in COMMANDS} == set(PACKAGES)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_help(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", name, "--help"], capture_output=True, text=True, cwd=ROOT, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {name} ")
    described = done.stdout.partition("\n\n")[2].partition("\n\n")[0]
    assert described[:1].isupper()
    assert not LEAKED.search(done.stdout)
    for option in re.findall(r"^  (-\S.*)$", done.stdout, re.MULTILINE):
        words = re.split(r"\s{2,}", option)
        following = done.stdout.partition(f"\n  {option}\n")[2].splitlines()[:1]
        assert len(words) > 1 or following[0].startswith(" " * 10), f"{option} has no help"
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 1.0, f"{spent:.2f} s of processor time"


def test_evaluate_lists_the_number_of_seeds() -> None:
    command = [sys.executable, "-m", "modeling.evaluate", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "--seeds N" in text
