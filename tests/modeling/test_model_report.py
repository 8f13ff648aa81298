"""The stage `model_report`, run as a command on the tiny evaluated world."""

import csv
import io
import json
import logging
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.runtime.stage import Context
from modeling import evaluate, model_report
from modeling.config.evaluate import SentenceParams
from modeling.reporting import sections
from modeling.reporting.html import MOST_PHOTO_BYTES, Item, line_chart, page, recommendation, table
from tests.modeling.evaluated import write_evaluated
from tests.modeling.world import NUM_ITEMS, exit_code

QUICK = evaluate.Params(num_threads=1, explanations=SentenceParams(max_tokens=4), bootstrap_resamples=50)
PARAMS = model_report.Params(num_users=4)
HOSTILE = "Thing <b>{}</b> & more <script>alert('x')</script>"
JPEG = b"\xff\xd8\xff\xe0 drawn here"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Context:
    place = write_evaluated(tmp_path_factory.mktemp("world"), title=HOSTILE)
    assert exit_code(evaluate, QUICK, place) == 0
    return place


@pytest.fixture
def place(evaluated: Context, tmp_path: Path) -> Context:
    """A copy that a test may change."""
    shutil.copytree(evaluated.root, tmp_path / "copy")
    return replace(evaluated, root=tmp_path / "copy")


def text_of(place: Context, params: model_report.Params = PARAMS) -> str:
    assert exit_code(model_report, params, place) == 0
    return place.report("model.html").read_text(encoding="utf-8")


def test_the_page_stands_alone(place: Context) -> None:
    text = text_of(place)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)""", text)
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert "@import" not in text
    assert "NaN" not in text


def test_a_hostile_title_is_shown_as_text(place: Context) -> None:
    text = text_of(place, model_report.Params(num_users=12))
    assert "Thing &lt;b&gt;3&lt;/b&gt; &amp; more &lt;script&gt;" in text
    assert "Thing <b>" not in text
    assert "alert('x')" not in text


def test_a_second_run_writes_the_same_bytes(place: Context) -> None:
    assert text_of(place) == text_of(place)


def test_it_shows_the_users_asked_for_and_says_that_numbers_leak(place: Context) -> None:
    text = text_of(place)
    assert text.count('class="card"') == 4
    assert '<span class="flag bad">leaking</span>' in text
    assert "number rule (largest number in the history + 1): HR@1 " in text
    assert " \N{EM DASH} LEAKS (random); by chance HR@10 would be " in text
    assert "VIP5 A-3" in text
    assert "<svg" in text
    assert "<td>VIP5 C-3 (given rating)</td><td>yes</td>" in text


def test_photos_are_put_into_the_page(place: Context) -> None:
    folder = place.raw / "photos"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "photos-00000.tar", "w") as tar:
        for item in range(1, NUM_ITEMS + 1):
            entry = tarfile.TarInfo(f"B{item}.jpg")
            entry.size = len(JPEG)
            tar.addfile(entry, io.BytesIO(JPEG))
    datasets: Mapping[str, Any] = dict(place.shared["datasets"]) | {"photos": "photos"}
    text = text_of(replace(place, shared=dict(place.shared) | {"datasets": datasets}))
    assert "data:image/jpeg;base64," in text
    assert "no photo" not in text


def test_the_first_prompt_replaces_one_that_was_not_evaluated(place: Context) -> None:
    assert text_of(place, model_report.Params(num_users=4, prompt="A-9")).count('class="card"') == 4


def test_a_page_without_a_pretrain_curve_is_written(place: Context) -> None:
    path = place.plots("pretrain.csv")
    with path.open(encoding="utf-8") as stream:
        names = next(csv.reader(stream))
    path.write_text(",".join(names) + "\n", encoding="utf-8")
    assert "pretrain: loss" not in text_of(place)


def test_metrics_that_are_not_there_are_told(place: Context, caplog: pytest.LogCaptureFixture) -> None:
    place.metrics("evaluate.json").unlink()
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(model_report, PARAMS, place) == 3
    assert "do: run `.venv/bin/dvc repro evaluate`" in caplog.text
    assert not place.report("model.html").exists()


def test_numbers_on_the_page_are_those_of_the_metrics_file(place: Context) -> None:
    results = json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))
    assert f"<td>{results['sequential']['A-3']['hr@10']:.4f} <small>" in text_of(place)


def test_slices_and_calibration_stand_on_the_page(place: Context) -> None:
    results = json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))
    absent = results["sequential"]["A-3"]["slices"]["target_photo"]["absent"]
    text = text_of(place)
    low, high = absent["ci95"]["hr@10"]
    cell = f"<td>{absent['hr@10']:.4f} <small>[{low:.4f}, {high:.4f}]</small></td>"
    assert f"<td>photo of the item: absent</td><td>{absent['num_users']}</td>{cell}" in text
    assert "A-3 compared with the other models, HR@10" in text
    assert text.count("<td>popularity of the item: head</td>") == 3  # sequential, direct, by model
    hits = results["sequential"]["A-3"]["hr@10"]
    assert f"HR@10 is {hits:.4f}." in text
    assert "A-3: predicted and observed, by rank" in text


def test_new_slices_are_shown_with_their_intervals() -> None:
    block = {"hr@10": 0.25, "ndcg@10": 0.1, "num_users": 8, "ci95": {"hr@10": [0.1, 0.4]}}
    results = {
        "sequential": {"A-3": {"slices": {"item_age": {"new": block}}}, "A-9": {"slices": {}}},
        "direct": {"B-5": {}},
    }  # fmt: skip
    text = "".join(sections.slices(results, "A-3"))
    assert "<td>item age: new</td><td>8</td><td>0.2500 <small>[0.1000, 0.4000]</small></td>" in text
    assert sections.slices({"sequential": {"A-3": {}}, "direct": {}}, "A-3") == []


def test_published_figures_are_shown_only_for_their_own_split(place: Context) -> None:
    assert "There are no published figures for a split with these numbers of users and items" in text_of(place)
    path = place.metrics("evaluate.json")
    results = json.loads(path.read_text(encoding="utf-8"))
    results |= {"num_users": 19_412, "num_items": 11_924}
    path.write_text(json.dumps(results), encoding="utf-8")
    text = text_of(place)
    assert (
        '<tr class="cited"><td>VIP5 A-3</td><td>yes</td><td>0.0662</td><td>0.0577</td><td>0.0749</td><td>0.0604</td>'
        in text
    )
    assert "<td>TIGER</td><td>no</td><td>0.0521</td><td>0.0371</td><td>0.0712</td><td>0.0432</td><td>-</td>" in text
    assert "published figures for this split (toys)" in text
    assert "30 of the 19,412 users were sampled" in text
    assert "Sources: Geng, Tan, Liu, Fu, Zhang: VIP5" in text


def test_every_row_of_ours_says_whether_it_leaks(place: Context) -> None:
    rows = re.findall(r'<tr class="own"><td>VIP5 (\S+)</td><td>(yes|none found)</td>', text_of(place))
    assert rows[:2] == [("A-3", "yes"), ("B-5", "yes")]  # the world's items are numbered in the order of the histories


def test_parts_of_the_page_escape_what_they_are_given() -> None:
    assert "<title>&lt;i&gt;</title>" in page("<i>", [])
    assert "<td>&lt;i&gt;</td>" in table(["a"], [["<i>"]], highlight="VIP5")
    assert "&lt;i&gt;" in line_chart("t", {"<i>": [(0.0, 1.0)]}, x_label="k")
    assert "&lt;i&gt;" in page("t", ["<i>"])
    assert line_chart("t", {}, x_label="k") == ""


def test_a_large_photo_is_replaced_by_its_size() -> None:
    def shown(size: int) -> str:
        item = Item(label="x", photo=JPEG.ljust(size, b"0"))
        return recommendation(user="p", prompt="A-6", history=[item], num_shown=1, top=[])

    assert "photo of 100 kB" not in shown(MOST_PHOTO_BYTES)
    assert "data:image" not in shown(MOST_PHOTO_BYTES + 1)
    assert "photo of 2,000 kB" in shown(2_048_000)


def test_a_negative_number_of_users_is_refused() -> None:
    with pytest.raises(ValueError, match="num_users must be at least 0"):
        model_report.Params(num_users=-1)
