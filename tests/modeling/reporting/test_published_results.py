import copy
from pathlib import Path

import pytest
import yaml

from features.errors import ParamsError
from modeling.reporting.published_results import FIGURES, load_published, rows, sources

COLUMNS = ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr@10")


def test_a_split_is_known_by_its_counts_and_not_by_its_name() -> None:
    published = load_published()
    assert published.split_of(19_412, 11_924) == "toys"
    assert published.split_of(22_363, 12_101) == "beauty"
    assert published.split_of(19_412, 11_925) is None


def test_rows_stand_under_our_columns_and_say_whether_they_leak() -> None:
    found = rows(load_published(), "toys", "sequential", COLUMNS)
    assert found[0] == ["VIP5 A-3", "yes", "0.0662", "0.0577", "0.0749", "0.0604", "-"]
    assert ["BSARec", "no", "0.0773", "0.0561", "0.1050", "0.0650", "-"] in found
    assert ["GRAM", "unknown", "0.0718", "0.0516", "-", "-", "-"] in found
    assert "ActionPiece" not in {row[0] for row in found}
    assert rows(load_published(), "toys", "explanation", ("bleu4", "rouge1")) == [
        ["VIP5 C-3", "yes", "2.32", "15.30"],
        ["VIP5 C-12", "yes", "3.93", "28.92"],
        ["PETER+", "unknown", "4.79", "-"],
    ]


def test_every_figure_of_a_split_is_cited_once() -> None:
    cited = sources(load_published(), "clothing")
    assert len(cited) == len(set(cited)) == 2
    assert cited[0].startswith("Geng, Tan, Liu, Fu, Zhang: VIP5")
    assert cited[1].startswith("PETER (Li, Zhang, Chen, ACL 2021)")


def test_what_is_given_by_order_of_appearance_leaks() -> None:
    marks = {figure.model: figure.leaks for figure in load_published().figures if figure.family == "sequential"}
    assert {model for model, leaks in marks.items() if leaks == "yes"} == {"VIP5 A-3", "VIP5 A-9", "number rule"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "nobody"}, "source 'nobody' of VIP5 A-3"),
        ({"values": {"toys": [0.1]}}, "1 numbers for toys of VIP5 A-3"),
        ({"values": {"books": [0.1, 0.1, 0.1, 0.1]}}, "4 numbers for books"),
        ({"leaks": "perhaps"}, "'perhaps'"),
    ],
)
def test_an_invalid_figure_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    whole = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    whole["figures"] = [copy.deepcopy(whole["figures"][0]) | change]
    path = tmp_path / "figures.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    with pytest.raises(ParamsError, match=message):
        load_published(path)
