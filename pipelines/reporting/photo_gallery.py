"""Contents of the photo page: contact sheet by cluster, map, nearest items, and rejected photos with reasons.

Reads the photo store, the catalogue and `images`. Returns plain values for the template, thumbnails as data URIs.
Only displayed photos are decoded; neighbours are exact cosines of the queries against the whole catalogue.
"""

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from features import schema
from features.runtime import stage
from features.runtime.seeds import rng
from features.store.embeddings import read_vectors, unit_rows
from features.store.tables import read_manifest, read_table
from features.vision.image_decoding import PhotoLimits, Rejection, decode
from features.vision.photo_store import PhotoStore
from pipelines.reporting import embedding_map as atlas

if TYPE_CHECKING:
    from pipelines.reporting.config import Params

Card = dict[str, Any]


def collect(params: "Params", context: stage.Context, store: PhotoStore | None) -> dict[str, Any]:
    """Collects the contents of the photo page; galleries are empty if the dataset has no photos."""
    items = read_table(context.table("sequences/items"), schema.CATALOGUE).to_pylist()
    by_id = {item["item_id"]: item for item in items}
    item_ids, vectors = read_vectors(context.table("images/embeddings"), schema.embeddings)
    rejects = read_table(context.table("images/rejects"), schema.PHOTO_REJECTS).to_pylist()
    shown = item_ids[np.any(vectors != 0, axis=1)]
    drawn = np.array(draw(shown, atlas.MOST_ITEMS, context.seed, "map"), dtype=item_ids.dtype)
    near_map = vectors[np.searchsorted(item_ids, drawn)]
    groups = atlas.grouped(
        drawn, near_map, num_groups=params.num_groups, shown=-(-params.num_items // max(params.num_groups, 1)),
        seed=context.seed,
    )  # fmt: skip
    categories = {item["item_id"]: item["category"] for item in items}

    def card(item_id: int, **more: Any) -> Card:
        item = by_id[item_id]
        data = store.bytes(item["item_key"]) if store else None
        return {
            "item_id": item_id, "item_key": item["item_key"], "title": item["title"],
            "image": thumbnail(data, params.thumbnail) if data else None, **more,
        }  # fmt: skip

    queries = draw(shown, params.num_queries, context.seed, "queries")
    near = neighbours(item_ids, vectors, queries, params.num_neighbours)
    notes = read_manifest(context.table("images/embeddings"))["notes"]
    return {
        "counts": notes.get("counts", {}),
        "encoder": notes.get("encoder", {}),
        "matching": notes.get("matching", {}).get("line"),
        "reasons": notes.get("reasons", {}),
        "treatments": notes.get("treatments", {}),
        "groups": [
            {
                "number": group.number,
                "size": len(group.items),
                "commonest": atlas.commonest(group.items, categories),
                "cards": [card(item_id) for item_id in group.typical],
            }
            for group in groups
        ],
        "num_shown": len(drawn),
        "num_photos": len(shown),
        "map": _map(drawn, near_map, groups, card),
        "rejects": [
            card(row["item_id"], reason=row["reason"], detail=row["detail"], source=row["source"])
            for row in rejects[: params.num_rejects]
        ],
        "num_rejects": len(rejects),
        "neighbours": [
            (card(query), [card(item_id, cosine=cosine) for item_id, cosine in near[query]]) for query in queries
        ],
    }


def _map(drawn: np.ndarray, vectors: np.ndarray, groups: list[atlas.Group], card: Callable[[int], Card]) -> Card:
    """The points of the map with their group, and one photo per grid cell."""
    places, shares = atlas.plane(vectors)
    group_of = {item: group.number for group in groups for item in group.items}
    points = [
        {"x": round(float(x), 1), "y": round(float(y), 1), "group": group_of.get(int(item), 0)}
        for item, (x, y) in zip(drawn, places, strict=True)
    ]
    pictures = [points[row] | card(int(drawn[row])) for row in atlas.pictured(places)]
    return {
        "points": points, "pictures": [picture for picture in pictures if picture["image"]], "shares": shares,
        "width": atlas.WIDTH, "height": atlas.HEIGHT,
    }  # fmt: skip


def draw(item_ids: np.ndarray, most: int, seed: int, name: str) -> list[int]:
    """Up to `most` items, sampled by the seed, ascending."""
    generator = rng(seed, "data_report", name)
    drawn: list[int] = generator.choice(item_ids, min(most, len(item_ids)), replace=False).tolist()
    return sorted(drawn)


def neighbours(
    item_ids: np.ndarray, vectors: np.ndarray, queries: list[int], most: int
) -> dict[int, list[tuple[int, float]]]:
    """The nearest items of each query by cosine, nearest first; ties go to the lower item_id.

    Args:
        item_ids: (I,) ascending.
        vectors: (I, D); items with a zero vector are excluded.
        queries: Item ids.
        most: Maximum number of neighbours per query.

    Example:
        Items 1, 2, 3 with vectors (1, 0), (0, 1), (0.6, 0.8): neighbours of [2], one each, are {2: [(3, 0.8)]}.
    """
    present = np.any(vectors != 0, axis=1)
    rows = unit_rows(vectors)
    nearest = {}
    for query in queries:
        row = int(np.searchsorted(item_ids, query))
        cosines = np.where(present, rows @ rows[row], -np.inf)
        cosines[row] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:most]
        nearest[query] = [(int(item_ids[i]), round(float(cosines[i]), 3)) for i in order if np.isfinite(cosines[i])]
    return nearest


def thumbnail(data: bytes, side: int) -> str | None:
    """A small JPEG of the photo as a data URI, or None if it cannot be decoded."""
    decoded = decode(data, PhotoLimits(min_side=1, min_contrast=0, max_aspect=1e6), shrink_to=2 * side)
    if isinstance(decoded, Rejection):
        return None
    image = decoded.image
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
