"""Rows of the Amazon formats: the fields of a parsed line by their names of 2014, 2018 and 2023.

Reads the object of one line. Returns the values of the table's columns as a tuple, or the `Fault` of the line.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.parsing import cleaning, lenient_values
from pipelines.parsing.lenient_values import Fault, Reading

Row = tuple[Any, ...]
RowOf = Callable[[Mapping[str, Any], Reading], Row | Fault]
REVIEW_FIELDS = (
    "user_key", "item_key", "rating", "timestamp", "user_name", "headline", "text", "helpful_votes",
    "verified", "variant",
)  # fmt: skip
ITEM_FIELDS = ("item_key", "title", "brand", "price", "categories", "description", "image_url")


def review_2014(record: Mapping[str, Any], reading: Reading) -> Row | Fault:
    """A review of the 2014 and 2018 dumps; 2018 has votes in another field and adds `verified` and `style`."""
    helpful = record.get("helpful")
    votes = helpful[0] if isinstance(helpful, list) and helpful else record.get("vote")
    return _review(
        record,
        reading,
        keys=("reviewerID", "asin", "overall", "unixReviewTime"),
        unit=1,
        rest=(record.get("reviewerName"), record.get("summary"), record.get("reviewText"), votes),
        choice=(record.get("verified"), cleaning.choices(record.get("style"))),
    )


def review_2023(record: Mapping[str, Any], reading: Reading) -> Row | Fault:
    """A review of the 2023 dumps: times in milliseconds, and the key of the parent item of all variants."""
    variant = record.get("asin")
    return _review(
        record,
        reading,
        keys=("user_id", "parent_asin", "rating", "timestamp"),
        unit=1000,
        rest=(None, record.get("title"), record.get("text"), record.get("helpful_vote")),
        choice=(
            record.get("verified_purchase"),
            cleaning.key(variant) if variant != record.get("parent_asin") else None,
        ),
    )


def _review(
    record: Mapping[str, Any], reading: Reading, *, keys: tuple[str, str, str, str], unit: int, rest: Row, choice: Row
) -> Row | Fault:
    notes: list[str] = []
    user = lenient_values.key(record, keys[0], "missing_user", notes)
    if isinstance(user, Fault):
        return user
    item = lenient_values.key(record, keys[1], "missing_item", notes)
    if isinstance(item, Fault):
        return item
    rating = lenient_values.rating(record, keys[2], reading, notes)
    if isinstance(rating, Fault):
        return rating
    timestamp = lenient_values.seconds(record, keys[3], unit, reading, notes)
    if isinstance(timestamp, Fault):
        return timestamp
    name, headline, text, votes = rest
    verified = lenient_values.flag(choice[0], notes)
    if notes:
        reading.taken.update(notes)
    return (
        user,
        item,
        rating,
        timestamp,
        cleaning.text(name),
        cleaning.text(headline),
        cleaning.text(text),
        cleaning.count(votes),
        verified,
        choice[1],
    )


def item_2014(record: Mapping[str, Any], reading: Reading) -> Row | Fault:
    """Metadata of the 2014 dumps and of the p5 folders."""
    return _item(record, reading, ("asin", "brand"), record.get("categories"), [record.get("imUrl")])


def item_2018(record: Mapping[str, Any], reading: Reading) -> Row | Fault:
    """Metadata of the 2018 dumps."""
    photos = [record.get("imageURLHighRes"), record.get("imageURL")]
    return _item(record, reading, ("asin", "brand"), record.get("category"), photos)


def item_2023(record: Mapping[str, Any], reading: Reading) -> Row | Fault:
    """Metadata of the 2023 dumps; an item without a category path has its main category."""
    images = record.get("images")
    if isinstance(images, dict):  # some copies of the dump have lists by size instead of a list of images
        lists = {size: values for size, values in images.items() if isinstance(values, list)}
        longest = max(map(len, lists.values()), default=0)
        images = [{size: (values[n : n + 1] or [None])[0] for size, values in lists.items()} for n in range(longest)]
    listed = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    listed.sort(key=lambda image: image.get("variant") != "MAIN")
    photos = [image.get(size) for image in listed for size in ("hi_res", "large", "thumb")]
    categories = record.get("categories") or [record.get("main_category")]
    return _item(record, reading, ("parent_asin", "store"), categories, photos)


def _item(
    record: Mapping[str, Any], reading: Reading, names: tuple[str, str], categories: object, photos: list[object]
) -> Row | Fault:
    notes: list[str] = []
    item = lenient_values.key(record, names[0], "missing_item", notes)
    if isinstance(item, Fault):
        return item
    if notes:
        reading.taken.update(notes)
    return (
        item,
        cleaning.title(record.get("title")),
        cleaning.text(record.get(names[1])),
        cleaning.price(record.get("price")),
        cleaning.path(categories),
        cleaning.joined(record.get("description")),
        cleaning.first_address(photos),
    )
