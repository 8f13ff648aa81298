"""Speed of the literal parser, and its answers beside those of `ast.literal_eval`: `python -m benchmarks.literals`.

Enters: a number of made-up lines, or a real metadata file, and a number of fuzzed inputs. Leaves: a table on standard
output; exit code 1 if one input is read differently.
Trade-off: the fuzzer draws from its own seeded grammar instead of hypothesis, 20 times as many inputs a second; what it
finds is not shrunk.
"""

import argparse
import ast
import contextlib
import gzip
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from pipelines.parsing import python_literals

_WORDS = (
    "the", "lid", "player's", '12"', '"new"', "it's", "Caf\u00e9", "&amp;", "\\", "\\n", "\n", "\t", "a/b",
    "\u201cgood\u201d", "\U0001f600", "100%", "x{y}", "[z]", "None", "True", "b'c'", "#", "'", '"',
)  # fmt: skip
_SOUP = "{}[]()'\"\\:, ax1-+.eNTFub0\n\t\u00e9\u4e2d\U0001f600"
_PIECES = (
    "'", '"', "\\", "\\'", '\\"', "\\\\", "\\n", "\\x41", "\\xe9", "\\xc3\\xa9", "\\u00e9", "\\ud83d\\ude00",
    "\\N{BULLET}", "\\101", "\\q", "{", "}", "[", "]", "(", ")", ",", ": ", "None", "True", "False", "null", "1",
    "-2.5", "1e5", "u'a'", "b'a'", "r'a'", "'a'", '"b"', "'''", '"""', " ", "#", "0x1f", "1_0", "...", "\t",
)  # fmt: skip


def text(draw: random.Random) -> str:
    """A text of up to 12 words, some of them awkward."""
    return " ".join(draw.choices(_WORDS, k=draw.randrange(12)))


def value(draw: random.Random, depth: int = 0) -> Any:
    """A value of the kinds that a literal denotes, up to four levels deep."""
    kind = draw.randrange(9 if depth < 4 else 6)
    if kind < 2:
        return text(draw)
    if kind == 2:
        return draw.choice((None, True, False))
    if kind == 3:
        return draw.randrange(-(2**63), 2**64)
    if kind in {4, 5}:
        return draw.choice((draw.random(), draw.randrange(100), float(draw.randrange(1000)), 1e22, -0.0))
    if kind == 6:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {text(draw): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    return tuple(value(draw, depth + 1) for _ in range(draw.randrange(3)))


def line(draw: random.Random) -> str:
    """An input: a value as `repr` writes it, the same with a few characters changed, or tokens in any order."""
    kind = draw.randrange(10)
    if kind < 4:
        return repr(value(draw))
    if kind < 7:
        letters = list(repr(value(draw)))
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(letters))
            letters[place : place + draw.randrange(2)] = draw.choice(_SOUP)
        return "".join(letters)
    if kind < 9:
        return "".join(draw.choices(_PIECES, k=draw.randrange(1, 14)))
    return draw.choice(("'", '"', "{'a': '", '["')) + "".join(draw.choices(_SOUP, k=draw.randrange(1, 20)))


def settled(found: Any) -> Any:
    """A value with the documented liberties taken: UTF-8 bytes decoded, surrogates joined, huge integers floats."""
    if isinstance(found, str):
        with contextlib.suppress(UnicodeError):
            found = found.encode("latin-1").decode("utf-8")
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(found, int) and not isinstance(found, bool) and not -(2**63) <= found < 2**64:
        return float(found)
    if isinstance(found, dict):
        return {settled(key): settled(entry) for key, entry in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(settled(entry) for entry in found)
    return found


def verdict(source: str) -> str:
    """How `literals.parse` and `ast.literal_eval` answer one input: "same", "different" or who refuses it."""
    try:
        expected = ast.literal_eval(source.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        expected = verdict
    try:
        found = python_literals.parse(source)
    except ValueError:
        return "both refuse" if expected is verdict else "only ast reads it"
    if expected is verdict:
        return "only we read it"
    same = found == expected or settled(found) == settled(expected)
    return "same" if same and repr(settled(found)) == repr(settled(expected)) else "different"


def fuzz(num_inputs: int, seed: int) -> bool:
    """Compares `num_inputs` inputs, prints the verdicts and up to three inputs of each; True if none is different."""
    draw, verdicts, shown = random.Random(seed), Counter[str](), Counter[str]()
    warnings.simplefilter("ignore")  # invalid escapes
    for _ in range(num_inputs):
        source = line(draw)
        answer = verdict(source)
        verdicts[answer] += 1
        if answer not in {"same", "both refuse"} and shown[answer] < (20 if answer == "different" else 3):
            shown[answer] += 1
            print(f"{answer}: {source!r}")
    print(f"{num_inputs:,} inputs, seed {seed}: " + ", ".join(f"{k} {v:,}" for k, v in sorted(verdicts.items())))
    return not verdicts["different"]


def made_up(num_lines: int, seed: int) -> list[str]:
    """Metadata lines of about 1.3 kB as the 2014 dump writes them; two thirds hold a quote or a backslash."""
    draw = random.Random(seed)
    return [
        repr({
            "asin": f"B{number:09d}", "title": f"Kettle {number} for {draw.choice(('the chef', 'a chef'))}'s stove"
            if draw.random() < 0.5 else f"Kettle {number}", "price": round(draw.random() * 100, 2), "brand": "Kelotav",
            "salesRank": {"Kitchen & Dining": draw.randrange(10**6)}, "imUrl": f"http://example.org/{number}.jpg",
            "related": {"also_bought": [f"B{draw.randrange(10**9):09d}" for _ in range(50)]},
            "categories": [["Home Goods", "Kitchen", "Kettles"]],
            "description": draw.choice(("A kettle.\nIt boils.", 'The "new" model\'s spout.', '12" wide. ', ""))
            + "Water goes in and steam comes out. " * draw.randrange(3, 8),
        })
        for number in range(num_lines)
    ]  # fmt: skip


def lines_per_second(parse: Callable[[str], object], lines: list[str]) -> float:
    """Lines a CPU-second, the best of three rounds."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for source in lines:
            parse(source)
        seconds.append(time.process_time() - started)
    return len(lines) / min(seconds)


def main() -> int:
    """Prints the speeds, and the outcome of the comparison where one is asked for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--metadata", type=Path, help="a gzipped file of real literal lines to measure too")
    parser.add_argument("--fuzz", type=int, default=0, metavar="INPUTS")
    parser.add_argument("--seed", type=int, default=2022)
    arguments = parser.parse_args()
    sets = {"made up": made_up(arguments.lines, arguments.seed)}
    if arguments.metadata:
        sets["real"] = gzip.decompress(arguments.metadata.read_bytes()).decode().splitlines()
    print(f"{'lines':<10}{'kB each':>8}{'ours':>10}{'literal_eval':>14}{'orjson on JSON':>16}   a CPU-second")
    for name, lines in sets.items():
        size = sum(map(len, lines)) / len(lines) / 1000
        as_json = [orjson.dumps(ast.literal_eval(source)).decode() for source in lines]
        ours, slow = lines_per_second(python_literals.parse, lines), lines_per_second(ast.literal_eval, lines[:500])
        print(f"{name:<10}{size:>8.1f}{ours:>10,.0f}{slow:>14,.0f}{lines_per_second(orjson.loads, as_json):>16,.0f}")
    return 0 if not arguments.fuzz or fuzz(arguments.fuzz, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
