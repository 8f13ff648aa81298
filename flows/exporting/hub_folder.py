"""Writes a folder that `datasets.load_dataset` reads: Parquet files and a card, README.md, that lists them.

The subset `interactions` has the splits train, validation and test; `items` and `users` have train alone.
"""

from pathlib import Path

import polars as pl
import yaml

from features.schema import SPLITS
from flows.exporting.prepared_tables import Prepared

_SPLIT_NAMES = {"train": "train", "valid": "validation", "test": "test"}
_CARD = """\
---
{header}---

# {name}

{users:,} users, {items:,} items and {rows:,} interactions. The last interaction of a user is in `test`, the one before
it in `validation`, the others in `train`.

```python
from datasets import load_dataset

interactions = load_dataset("FOLDER OF THIS FILE", "interactions", split="train")
items = load_dataset("FOLDER OF THIS FILE", "items", split="train")
```

| subset | columns |
|---|---|
| `interactions` | {interaction_columns} |
| `items` | {item_columns} |
| `users` | {user_columns} |

`user_id` and `item_id` are the keys of the original data, `position` is the place in the user's order, from 1, and
`timestamp` is in seconds since 1970, UTC. Empty where the original has none. The licence is that of the original data.
"""


def write(tables: Prepared, folder: Path) -> list[str]:
    """Writes the Parquet files and the card into `folder`; returns a line for each subset."""
    frames: dict[str, dict[str, pl.DataFrame]] = {
        "interactions": {
            _SPLIT_NAMES[split]: tables.interactions.filter(pl.col("split") == split).drop("split") for split in SPLITS
        },
        "items": {"train": tables.items},
        "users": {"train": tables.users},
    }
    for subset, splits in frames.items():
        (folder / subset).mkdir()
        for split, frame in splits.items():
            frame.write_parquet(folder / subset / f"{split}.parquet")
    (folder / "README.md").write_text(_card(tables, frames), encoding="utf-8")
    return [
        f"{subset}: " + ", ".join(f"{split} {frame.height:,} rows" for split, frame in splits.items())
        for subset, splits in frames.items()
    ]


def _card(tables: Prepared, frames: dict[str, dict[str, pl.DataFrame]]) -> str:
    configs = [
        {
            "config_name": subset,
            "data_files": [{"split": split, "path": f"{subset}/{split}.parquet"} for split in splits],
            **({"default": True} if subset == "interactions" else {}),
        }
        for subset, splits in frames.items()
    ]
    header = {"pretty_name": tables.name, "tags": ["recommendation"], "configs": configs}
    columns = {
        subset: ", ".join(f"`{column}`" for column in splits["train"].columns) for subset, splits in frames.items()
    }
    return _CARD.format(
        header=yaml.safe_dump(header, sort_keys=False),
        name=tables.name,
        users=tables.users.height,
        items=tables.items.height,
        rows=tables.interactions.height,
        interaction_columns=columns["interactions"],
        item_columns=columns["items"],
        user_columns=columns["users"],
    )
