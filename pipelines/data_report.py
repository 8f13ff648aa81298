"""Stage `data_report`: renders two HTML pages about the data.

Reads the tables from records to identifiers, and the dump's photos. Writes `data.html` (kept and rejected rows,
distributions) and `photos.html` (contact sheet, map and nearest neighbours).
Pages are self-contained, without scripts, fonts or dates: identical inputs give identical bytes.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.runtime import stage
from features.runtime.datasets import dataset
from features.store.durable import write_text
from pipelines.reporting.config import Params

TEMPLATES = Path(__file__).parent / "reporting" / "pages"

SECTIONS = ("datasets", "sequences")
READS = (
    "data/raw/${dataset}",
    "data/${dataset}/records/reviews",
    "data/${dataset}/records/items",
    "data/${dataset}/records/rejects",
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
    "data/${dataset}/explanations",
    "data/${dataset}/images/embeddings",
    "data/${dataset}/images/rejects",
    "data/${dataset}/identifiers",
)
WRITES = ("reports/${dataset}/data.html", "reports/${dataset}/photos.html")


def run(params: Params, context: stage.Context) -> int:
    """Render the data pages: counts, rejects, distributions, sequences and photos."""
    from features.schema import CATALOGUE
    from features.store.tables import read_table
    from features.vision.dataset_photos import known_items, open_photos
    from pipelines.reporting import data_summary, photo_gallery

    keys = read_table(context.table("sequences/items"), CATALOGUE, columns=("item_key",))["item_key"].to_pylist()
    known = known_items(context.table("records/items"))
    store = open_photos(context.raw, dataset(context.shared, context.dataset), keys, known)
    data = data_summary.collect(params, context)
    sheet = photo_gallery.collect(params, context, store)
    write_page(context.report("data.html"), "data.html", {"dataset": context.dataset} | data)
    write_page(context.report("photos.html"), "photos.html", {"dataset": context.dataset} | sheet)
    return int(data["num_items"])


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Renders a page (all values escaped) and writes it atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(template, values))


def render(template: str, values: Mapping[str, Any]) -> str:
    """Renders a page to text; a value missing from `values` is an error."""
    from features.runtime.html_pages import templates

    return templates(TEMPLATES).get_template(template).render(**values)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("data_report", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
