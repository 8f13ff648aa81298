"""`recommend_all` writes the items that `recommend` prints for each user."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from features import schema
from features.prompts.templates import OWN_TEMPLATES, load_templates
from features.runtime.stage import Context
from features.store.tables import read_table
from flows.registry import model_registry
from modeling import evaluate, recommend_all
from modeling.serving import recommender
from modeling.serving.request import known_user, load_settings
from tests.modeling.evaluated import DATASET, write_evaluated
from tests.modeling.world import NUM_ITEMS


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Context:
    place = write_evaluated(tmp_path_factory.mktemp("all"))
    params = {
        "dataset": place.dataset, "datasets": {place.dataset: DATASET},
        "prompts": {"templates": None, "max_history": 2, "history_kept": "newest"},
        "evaluate": asdict(evaluate.Params(beam=NUM_ITEMS)),
    }  # fmt: skip
    (place.root / "params.yaml").write_text(yaml.safe_dump(params))
    assert OWN_TEMPLATES.is_file()
    return place


def test_the_table_names_what_each_user_would_be_told(
    evaluated: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert recommend_all.main(["--root", str(evaluated.root), "--params", str(evaluated.root / "params.yaml"),
                               "--top-k", "5"]) == 0  # fmt: skip
    rows = read_table(evaluated.table("recommendations"), schema.PREDICTIONS).to_pylist()
    users = read_table(evaluated.table("sequences/users"), schema.USERS).to_pylist()
    assert {row["user_id"] for row in rows} == {user["user_id"] for user in users}
    monkeypatch.chdir(evaluated.root)
    settings = load_settings(Path("params.yaml"))
    prompt = next(prompt for prompt in load_templates(settings.templates) if prompt.id == "A-3")
    for user in users[:3]:
        request_user = known_user(settings.places, user["user_key"])
        answer = recommender.recommend(settings, request_user, prompt=prompt, top_k=5)
        own = [row for row in rows if row["user_id"] == user["user_id"]]
        assert [row["item_id"] for row in own] == list(answer.items)
        assert [row["score"] for row in own] == pytest.approx(list(answer.scores), abs=1e-4)
        assert not {row["item_id"] for row in own} & set(request_user.history)


def test_recommendations_need_the_same_ids_in_the_workspace(
    evaluated: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(shutil.copytree(evaluated.root, tmp_path / "promoted"))
    monkeypatch.chdir(root)
    params = yaml.safe_load(Path("params.yaml").read_text())
    metrics = evaluated.metrics("evaluate.json").relative_to(evaluated.root)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text("{}")
    digest, _ = model_registry.seal("tiny", model_registry.copy_to_staging("tiny"), params)
    model_registry.promote("tiny", digest, {"promoted_at": "2026-11-28T19:30:00+00:00"})
    with caplog.at_level("INFO", logger="vip5"):
        assert recommend_all.main(["--top-k", "2"]) == 0
    assert f"model: champion {digest}, promoted 2026-11-28 19:30 UTC" in caplog.text
    rows = read_table(root / "data/tiny/recommendations", schema.PREDICTIONS).num_rows
    assert rows == 2 * read_table(evaluated.table("sequences/users"), schema.USERS).num_rows
    manifest = root / "data/tiny/identifiers/_manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    assert recommend_all.main(["--top-k", "2"]) == 4
    assert (
        "found a champion with other identifiers than data/tiny/identifiers; expected the same numbers" in caplog.text
    )
    assert recommend_all.main(["--top-k", "2", "--out", str(tmp_path / "out")]) == 0
    assert read_table(tmp_path / "out", schema.PREDICTIONS).num_rows == rows


def test_a_prompt_that_asks_for_no_item_is_told(
    evaluated: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(evaluated.root)
    assert recommend_all.main(["--prompt", "B-5"]) == 2
    assert "found prompt B-5 for all users; expected one of: A-1" in caplog.text
