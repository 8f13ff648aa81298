"""The stage `model_report`, started as its command on the tiny evaluated world."""

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

from features.stage import Context
from modeling import evaluate, model_report
from modeling.model_page import line_chart, page, table
from tests.modeling.evaluated import write_evaluated
from tests.modeling.world import NUM_ITEMS, exit_code

QUICK = evaluate.Params(num_threads=1, explanation_max_tokens=4, bootstrap_resamples=50)
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
    """A copy that a test may spoil."""
    shutil.copytree(evaluated.root, tmp_path / "copy")
    return replace(evaluated, root=tmp_path / "copy")


def text_of(place: Context, params: model_report.Params = PARAMS) -> str:
    assert exit_code(model_report, params, place) == 0
    return place.report("model.html").read_text(encoding="utf-8")


def test_the_page_stands_alone(place: Context) -> None:
    text = text_of(place)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)""", text)
    assert "http" not in text
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
    assert '<span class="flag leak">leaking</span>' in text
    assert "number rule (largest number in the history + 1): HR@1 " in text
    assert " \N{EM DASH} LEAKS (random); by chance HR@10 would be " in text
    assert "VIP5 A-3" in text
    assert "<svg" in text
    assert "<td>VIP5 C-3 (given rating)</td>" in text


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


def test_a_prompt_that_was_not_evaluated_gives_way_to_the_first_one(place: Context) -> None:
    assert text_of(place, model_report.Params(num_users=4, prompt="A-9")).count('class="card"') == 4


def test_a_backbone_taken_as_it_is_has_no_curve_and_that_is_no_failure(place: Context) -> None:
    path = place.plots("pretrain.csv")
    with path.open(encoding="utf-8") as stream:
        names = next(csv.reader(stream))
    path.write_text(",".join(names) + "\n", encoding="utf-8")
    assert "pretrain: loss" not in text_of(place)


def test_metrics_that_are_not_there_are_told(place: Context, caplog: pytest.LogCaptureFixture) -> None:
    place.metrics("evaluate.json").unlink()
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(model_report, PARAMS, place) == 3
    assert "do: run `dvc repro evaluate`" in caplog.text
    assert not place.report("model.html").exists()


def test_numbers_on_the_page_are_those_of_the_metrics_file(place: Context) -> None:
    results = json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))
    assert f"<td>{results['sequential']['A-3']['hr@10']:.4f} <small>" in text_of(place)


def test_parts_of_the_page_escape_what_they_are_given() -> None:
    assert "<title>&lt;i&gt;</title>" in page("<i>", [])
    assert "<td>&lt;i&gt;</td>" in table(["a"], [["<i>"]], own="VIP5")
    assert "&lt;i&gt;" in line_chart("t", {"<i>": [(0.0, 1.0)]}, x_label="k")
    assert line_chart("t", {}, x_label="k") == ""


def test_a_negative_number_of_users_is_refused() -> None:
    with pytest.raises(ValueError, match="num_users must be at least 0"):
        model_report.Params(num_users=-1)
