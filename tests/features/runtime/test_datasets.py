import pytest

from features.errors import ParamsError
from features.runtime.datasets import Dataset, dataset


def test_an_entry_of_params_is_a_dataset() -> None:
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": ["m.json.gz"], "photos": "photos"}
    found = dataset({"datasets": entry}, "sample")
    assert found.files == ("r.json.gz", "m.json.gz")
    assert (found.format, found.photos, found.urls) == ("amazon2014", "photos", ())


def test_columns_are_names_or_places() -> None:
    entry = {"format": "ratings", "reviews": ["r.csv"], "metadata": [], "columns": {"user": 2, "item": "film"}}
    assert dataset({"datasets": entry}, "films").columns == {"user": 2, "item": "film"}


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ParamsError, match=r"datasets\.x\.format = 'amazon2041'; expected .*amazon2014"):
        dataset({"datasets": {"format": "amazon2041", "reviews": ["r"], "metadata": []}}, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reviews": ()}, "at least one file name"),
        ({"reviews": ("/etc/passwd",)}, "must lie inside"),
        ({"metadata": ("a/../../m",)}, "must lie inside"),
        ({"photos": "../photos"}, "must lie inside"),
        ({"photos": ""}, "must lie inside"),
        ({"urls": {"../r": "address"}}, "not among the files"),
        ({"metadata": ("r",)}, "more than once"),
        ({"format": "p5"}, "needs two review files"),
        ({"columns": {"user": 1}}, "columns are for the formats ratings, recbole, sequences, openp5, not for amazon"),
        ({"format": "ratings", "columns": {"usr": 1}}, "columns of usr: known are user, item, rating"),
        ({"format": "ratings", "columns": {"user": 0}}, "columns.user = 0 must be"),
        ({"rating_range": (5.0, 1.0)}, "must be two numbers, the smaller first"),
    ],
)
def test_file_names_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(**({"format": "amazon2018", "reviews": ("r",), "metadata": ()} | changes))  # type: ignore[arg-type]
