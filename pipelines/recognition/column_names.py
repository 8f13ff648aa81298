"""Names that a column of users, items, ratings, times and so on may have in a header.

Names are compared in lower case and without marks: `plain` and `bare`.
"""

import re
from collections.abc import Mapping

_ITEMS = ("item", "itemid", "parentasin", "asin", "movieid", "iid", "itemkey", "productid", "bookid")
REVIEWS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "userid", "reviewerid", "uid", "userkey", "customerid"),
    "item": _ITEMS,
    "rating": ("rating", "overall", "stars", "score", "ratings"),
    "time": ("timestamp", "time", "unixreviewtime", "datetime", "date", "reviewtime"),
    "user_name": ("reviewername", "username"),
    "headline": ("headline", "summary"),
    "text": ("reviewtext", "text", "review"),
}
"""Columns of a table of reviews that `records` knows by name; of several, the first name counts."""
ITEMS: Mapping[str, tuple[str, ...]] = {
    "item": _ITEMS,
    "title": ("title", "name", "itemname", "productname", "movietitle"),
    "brand": ("brand", "store", "manufacturer"),
    "price": ("price",),
    "categories": ("categories", "category", "genres", "genre", "maincategory", "class"),
    "description": ("description",),
    "image_url": ("imageurl", "imurl", "image", "imageurlhighres"),
}
"""Columns of a table of items that `records` knows by name."""
_MORE = {
    "user": ("visitorid", "sessionid"), "item": ("isbn", "artistid"), "rating": ("bookrating",), "time": ("unixtime",),
    "title": ("producttitle", "booktitle"), "categories": (), "brand": ("maker",),
}  # fmt: skip
MEANINGS: Mapping[str, frozenset[str]] = {
    meaning: frozenset({**ITEMS, **REVIEWS}[meaning]) | set(more) for meaning, more in _MORE.items()
}
"""All names of a meaning that is recognised; `flows.new` writes those that `records` does not know into `columns`."""


def plain(name: str) -> str:
    """A column's name in lower case, without the type of RecBole and without marks.

    Example:
        >>> plain("user_id:token"), plain(" parentAsin ")
        ('userid', 'parentasin')
    """
    return bare(name.split(":", 1)[0])


def bare(name: str) -> str:
    """A name in lower case and without marks."""
    return re.sub(r"[\s_.-]", "", name.lower())
