"""The top items of every user are those that `recommend` names one by one."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from features import schema
from features.stage import Context
from features.tables import read_table
from features.templates import OWN_TEMPLATES, load_templates
from modeling import evaluate, recommend, recommend_all
from modeling.persons import known_person, load_line
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
    line = load_line(Path("params.yaml"))
    prompt = next(prompt for prompt in load_templates(line.templates) if prompt.id == "A-3")
    for user in users[:3]:
        person = known_person(line.places, user["user_key"])
        answer = recommend.recommend(line, person, prompt=prompt, top_k=5)
        own = [row for row in rows if row["user_id"] == user["user_id"]]
        assert [row["item_id"] for row in own] == list(answer.items)
        assert [row["score"] for row in own] == pytest.approx(list(answer.scores), abs=1e-4)
        assert not {row["item_id"] for row in own} & set(person.history)
