"""flows.export: files that pandas, polars and datasets read back; one line for every mistake."""

from pathlib import Path

import datasets
import pandas as pd
import polars as pl
import pytest
import yaml

from flows import export
from flows.exporting import recbole_files
from tests.flows.exporting import prepared_shop


@pytest.fixture
def shop(workspace: Path) -> Path:
    return prepared_shop.write(workspace)


def as_recbole_reads(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, delimiter="\t", dtype=str, encoding="utf-8", engine="python")


def read(shop: Path) -> dict[str, pd.DataFrame]:
    assert export.main(["shop", "--to", "recbole"]) == 0
    folder = shop / "work/export/shop-recbole/shop"
    return {path.name.removeprefix("shop."): as_recbole_reads(path) for path in folder.iterdir()}


def test_recbole_files_hold_every_row_in_order(shop: Path) -> None:
    found = read(shop)
    whole = found["inter"]
    assert list(whole.columns) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert list(whole["user_id:token"].unique()) == ["NA_", 'the "best" buyer', "u3"]
    assert list(whole["item_id:token"][:4]) == ["nan_", "B3,C", "B4", "0007"]
    assert list(whole["timestamp:float"][:4]) == [str(1_400_000_000 + place) for place in range(4)]
    assert [len(found[f"{split}.inter"]) for split in ("train", "valid", "test")] == [6, 3, 3]
    assert list(found["test.inter"]["item_id:token"]) == ["0007", "nan_", "B3,C"]


def test_recbole_items_stay_on_one_line_each(shop: Path) -> None:
    items = read(shop)["item"].fillna("")
    assert list(items["item_id:token"]) == ["0007", "nan_", "B3,C", "B4"]
    assert list(items["title:token_seq"]) == ["A tab and a break", '"quoted" title', "", ""]
    assert list(items["categories:token_seq"]) == ["Toys_&_Games Deep"] * 3 + [""]
    assert set(items["brand:token"]) == {"Acme Inc"}


def test_recbole_settings_leave_the_last_one_out(shop: Path) -> None:
    read(shop)
    settings = yaml.safe_load((shop / "work/export/shop-recbole/shop.yaml").read_text(encoding="utf-8"))
    assert settings["eval_args"] == {
        "group_by": "user", "order": "TO", "split": {"LS": "valid_and_test"}, "mode": "full"
    }  # fmt: skip
    assert settings["load_col"]["inter"] == ["user_id", "item_id", "rating", "timestamp"]


def test_positions_stand_for_times_that_are_unknown(workspace: Path) -> None:
    whole = read(prepared_shop.write(workspace, timed=False, rated=False))["inter"]
    assert list(whole.columns) == ["user_id:token", "item_id:token", "timestamp:float"]
    assert list(whole["timestamp:float"]) == ["1", "2", "3", "4"] * 3


def test_words_for_missing_are_those_of_pandas() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(recbole_files._MISSING) >= set(STR_NA_VALUES)


def test_datasets_loads_the_folder(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert export.main(["shop", "--to", "hf", "--out", "folder of mine"]) == 0
    loaded = datasets.load_dataset("./folder of mine", cache_dir=str(shop / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 6, "validation": 3, "test": 3}
    first = loaded["validation"][0]
    assert first == {
        "user_id": "NA", "item_id": "B4", "position": 3, "rating": 4.0, "timestamp": 1_400_000_002,
    }  # fmt: skip
    items = datasets.load_dataset("./folder of mine", "items", split="train", cache_dir=str(shop / "cache"))
    assert items[0]["categories"] == ["Toys & Games", "Deep"]
    assert items["title"][:] == list(prepared_shop.TITLES)
    users = datasets.load_dataset("./folder of mine", "users", split="train", cache_dir=str(shop / "cache"))
    assert users["user_id"][:] == list(prepared_shop.USERS)


def test_csv_is_read_by_polars_and_pandas(shop: Path) -> None:
    assert export.main(["shop", "--to", "csv"]) == 0
    folder = shop / "work/export/shop-csv"
    header = (folder / "interactions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "user_id,item_id,rating,timestamp,split"
    text = {"user_id": pl.String, "item_id": pl.String}
    rows = pl.read_csv(folder / "interactions.csv", schema_overrides=text)
    assert rows["item_id"][:4].to_list() == ["nan", "B3,C", "B4", "0007"]
    again = pd.read_csv(folder / "interactions.csv", dtype={"user_id": str, "item_id": str}, keep_default_na=False)
    assert again["user_id"].tolist() == rows["user_id"].to_list()
    assert pl.read_csv(folder / "items.csv", schema_overrides=text)["title"].to_list() == list(prepared_shop.TITLES)
    assert pl.read_csv(folder / "users.csv")["num_interactions"].to_list() == [4, 4, 4]


def test_an_unknown_dataset_names_the_nearest(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert export.main(["shopp", "--to", "csv"]) == 2
    assert "found dataset 'shopp'; expected shop (the nearest known)" in caplog.text


def test_tables_not_made_name_the_command(shop: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert export.main(["other", "--to", "csv"]) == 4
    assert "do: run `.venv/bin/dvc repro sequences`" in caplog.text
    assert "sequences" in yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    (shop / "data/shop/sequences").rename(shop / "data/shop/elsewhere")
    assert export.main(["shop", "--to", "csv"]) == 4
    assert "do: run `make run PROFILE=shop`" in caplog.text


def test_a_full_folder_needs_force(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shop / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("kept", encoding="utf-8")
    assert export.main(["shop", "--to", "csv", "--out", "mine"]) == 3
    assert "found mine, which is not empty; expected a new or empty folder; do: write over" in caplog.text
    assert export.main(["shop", "--to", "csv", "--out", "mine", "--force"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["interactions.csv", "items.csv", "notes.txt", "users.csv"]
    assert export.main(["shop", "--to", "csv", "--out", "mine/notes.txt", "--force"]) == 3


def test_keys_that_would_become_equal_are_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_shop, "USERS", ("NA", "NA_", "u3"))
    prepared_shop.write(workspace)
    assert export.main(["shop", "--to", "recbole"]) == 4
    assert not list((workspace / "work/export").iterdir())
    assert export.main(["shop", "--to", "csv"]) == 0
