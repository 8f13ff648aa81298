"""A review in the format of the 2014 dump."""

import json
from collections.abc import Mapping
from typing import Any

GOOD = {
    "reviewerID": "U1", "asin": "B1", "reviewerName": "Kelo Tav", "helpful": [2, 3], "reviewText": "Salt &amp; pepper.",
    "overall": 4.0, "summary": "Good", "unixReviewTime": 1393545600, "reviewTime": "02 28, 2014",
}  # fmt: skip


def dumped(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode()
