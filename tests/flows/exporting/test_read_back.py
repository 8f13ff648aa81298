"""The CSV files of flows.export, brought in again by flows.new, give the same interactions and items."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from flows import export, new
from flows.pipeline.derived_pipeline import write_pipeline
from pipelines import records, sequences

PAIRS = [(user, (user * 5 + 3 * step) % 24) for user in range(30) for step in range(6 + user % 3)]


def rated(folder: Path) -> None:
    """Half stars, keys that are numbers or need quotes, and pairs of ratings in the same second."""
    rows = [
        f'"{user},0",{item:03d},{0.5 + number % 10 / 2},{1_400_000_000 + number // 2 * 60}'
        for number, (user, item) in enumerate(PAIRS)
    ]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    films = [f'{item:03d},"Film, ""The"" {item}",Comedy|Drama' for item in range(24)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")


def ordered(folder: Path) -> None:
    """Sequences: neither ratings nor times."""
    histories = {user: [str(item + 1) for one, item in PAIRS if one == user] for user in range(30)}
    (folder / "Beauty.txt").write_text("".join(f"{user + 1} {' '.join(items)}\n" for user, items in histories.items()))


def prepared(name: str, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions and items of a folder by the keys of the dump."""
    assert new.main([name, "--from", str(folder)]) == 0
    params = str(write_pipeline([name]).with_name("params.yaml"))
    assert records.main(["--params", params]) == sequences.main(["--params", params]) == 0
    tables = {
        table: pl.scan_parquet(f"data/{name}/sequences/{table}/*.parquet")
        for table in ("interactions", "users", "items")
    }
    rows = tables["interactions"].join(tables["users"], on="user_id").join(tables["items"], on="item_id")
    columns = ("user_key", "position", "item_key", "rating", "split")
    items = pl.scan_parquet(f"data/{name}/records/items/*.parquet").select("item_key", "title", "categories")
    return rows.select(columns).sort("user_key", "position").collect(), items.sort("item_key").collect()


@pytest.mark.parametrize("make", [rated, ordered])
def test_an_export_is_read_back(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path / name)
    for folder in ("profiles", "downloads"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    make(Path("downloads"))
    interactions, items = prepared("home", Path("downloads"))
    assert interactions.height == len(PAIRS)
    assert export.main(["home", "--to", "csv"]) == 0
    again, described = prepared("again", Path("work/export/home-csv"))
    assert again.equals(interactions)
    if items.height:
        assert described.equals(items)
