"""Writes the atomic files of RecBole: `NAME/NAME.inter`, `NAME/NAME.item`, split files and `NAME.yaml`.

RecBole reads them with pandas: tabs between fields, spaces inside sequences, double quotes around a field that contains
one, and NA, null and the like as missing, also where they are quoted. It holds times as 32-bit floats and sorts stably;
rows are therefore written by user and position, so that two times which become equal keep their order.
"""

from pathlib import Path

import polars as pl

from features.errors import TableError
from features.schema import SPLITS
from flows.exporting.prepared_tables import Prepared

_BREAKS = r"[\x00-\x1f\x7f\x85\u2028\u2029]+"
_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_SETTINGS = """\
# Settings of RecBole for {name}; run from the folder of this file:
#   python -c "from recbole.quick_start import run_recbole
#   run_recbole(model='Pop', dataset='{name}', config_file_list=['{name}.yaml'], saved=False)"
data_path: .
field_separator: "\\t"
seq_separator: " "
USER_ID_FIELD: user_id
ITEM_ID_FIELD: item_id
TIME_FIELD: timestamp
load_col:
  inter: [{columns}]
  item: '*'
# The last interaction of a user is test, the one before it valid; all items that the user has not seen are ranked.
eval_args:
  group_by: user
  order: TO
  split: {{LS: valid_and_test}}
  mode: full
# The same split from files, for models that are not sequential:
# benchmark_filename: [train, valid, test]
metrics: [Hit, NDCG, MRR]
topk: [1, 5, 10]
valid_metric: NDCG@10
"""


def write(tables: Prepared, folder: Path) -> list[str]:
    """Writes the files into `folder`, from which RecBole is run; returns a line for each.

    Raises:
        TableError: Two keys are equal once they are written as RecBole can read them.
    """
    inner = folder / tables.name
    inner.mkdir()
    rows = _interactions(tables)
    lines = [_write(rows, inner / f"{tables.name}.inter")]
    for split in SPLITS:
        part = rows.filter(tables.interactions["split"] == split)
        lines.append(_write(part, inner / f"{tables.name}.{split}.inter"))
    lines.append(_write(_items(tables.items), inner / f"{tables.name}.item"))
    columns = ", ".join(column.partition(":")[0] for column in rows.columns)
    settings = folder / f"{tables.name}.yaml"
    settings.write_text(_SETTINGS.format(name=tables.name, columns=columns), encoding="utf-8")
    return [*lines, f"{settings.name}: RecBole's settings"]


def _interactions(tables: Prepared) -> pl.DataFrame:
    """The interactions with RecBole's header; without the column of ratings where the dump has none."""
    rated = tables.interactions["rating"].null_count() < tables.interactions.height
    return tables.interactions.select(
        _tokens(tables.interactions["user_id"]).alias("user_id:token"),
        _tokens(tables.interactions["item_id"]).alias("item_id:token"),
        *([pl.col("rating").alias("rating:float")] if rated else []),
        tables.order.alias("timestamp:float"),
    )


def _items(items: pl.DataFrame) -> pl.DataFrame:
    """The items with RecBole's header: the words of the title, and the category path with _ for spaces."""
    words = pl.col("categories").list.eval(_plain(pl.element()).str.replace_all(r"\s+", "_"))
    return items.select(
        _tokens(items["item_id"]).alias("item_id:token"),
        _plain(pl.col("title")).alias("title:token_seq"),
        _plain(pl.col("brand")).alias("brand:token"),
        words.list.join(" ").alias("categories:token_seq"),
    )


def _plain(column: pl.Expr) -> pl.Expr:
    return column.str.replace_all(_BREAKS, " ").str.strip_chars()


def _tokens(keys: pl.Series) -> pl.Series:
    """Keys as RecBole reads them back: no tab or line break, and _ after one that pandas takes as missing."""
    plain = keys.to_frame("key").select(_plain(pl.col("key")))
    written = plain.select(pl.when(pl.col("key").is_in(_MISSING)).then(pl.col("key") + "_").otherwise(pl.col("key")))
    found = written["key"].rename(keys.name)
    if found.n_unique() != keys.n_unique():
        raise TableError(
            f"{keys.n_unique() - found.n_unique()} {keys.name} that differ only in spaces, line breaks or a final _",
            "keys that stay different in a RecBole file", "export with --to hf or --to csv",
        )  # fmt: skip
    return found


def _write(frame: pl.DataFrame, path: Path) -> str:
    frame.write_csv(path, separator="\t", quote_style="necessary")
    return f"{path.parent.name}/{path.name}: {frame.height:,} rows"
