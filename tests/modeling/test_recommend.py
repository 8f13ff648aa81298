"""The command `recommend` on the tiny evaluated world: rankings of `evaluate`, champions, errors."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from features import schema
from features.errors import ParamsError
from features.prompts.templates import OWN_TEMPLATES, load_templates
from features.runtime.stage import Context
from features.store.tables import read_table
from flows.registry import model_registry
from flows.registry.quality_gate import Baseline
from modeling import evaluate, recommend
from modeling.config.evaluate import SentenceParams
from modeling.serving import promoted_model, recommender
from modeling.serving.promoted_model import Champion
from modeling.serving.request import COLD_START_NAME, Catalogue, RequestUser, known_user, load_settings, near
from tests.modeling.evaluated import write_evaluated
from tests.modeling.world import NUM_ITEMS, exit_code

QUICK = evaluate.Params(num_threads=1, explanations=SentenceParams(max_tokens=4), bootstrap_resamples=0)
SOURCE = "Here is what user_{user_id} bought : \n {history} \n what is next ?"
"""Text of the world's A-3."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Context:
    place = write_evaluated(tmp_path_factory.mktemp("world"), title="Thing <b>{}</b>")
    assert exit_code(evaluate, QUICK, place) == 0
    templates = yaml.safe_load(OWN_TEMPLATES.read_text(encoding="utf-8"))
    next(entry for entry in templates["prompts"] if entry["id"] == "A-3")["source"] = SOURCE
    (place.root / "own.yaml").write_text(yaml.safe_dump(templates), encoding="utf-8")
    (place.root / "params.yaml").write_text(yaml.safe_dump(parameters(place)), encoding="utf-8")
    return place


def parameters(place: Context) -> dict[str, Any]:
    prompts = {"templates": "own.yaml", "max_history": None, "history_kept": "newest"}
    return {
        "dataset": "tiny", "seed": 5, "datasets": {"tiny": place.shared["datasets"]}, "prompts": prompts,
        "evaluate": asdict(QUICK),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def place(evaluated: Context, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.chdir(evaluated.root)
    return evaluated


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    """Runs the command; returns the fields of every printed line after the user and the model."""
    assert recommend.main(arguments) == 0
    return [line.split(None, 3) for line in capsys.readouterr().out.splitlines()[2:]]


def history_of(place: Context, user_id: int) -> list[dict[str, Any]]:
    rows = read_table(place.table("sequences/interactions"), schema.INTERACTIONS).to_pylist()
    return [row for row in rows if row["user_id"] == user_id]


@pytest.mark.parametrize("user_id", [1, 17])
def test_without_the_test_item_it_answers_as_evaluate_did(
    place: Context, capsys: pytest.CaptureFixture[str], user_id: int
) -> None:
    rows = read_table(place.table("predictions"), schema.PREDICTIONS).to_pylist()
    expected = [row for row in rows if row["prompt_id"] == "A-3" and row["user_id"] == user_id]
    found = printed(capsys, "--user", f"U{user_id}", "--held-out", "--top-k", "20")
    assert [key for _, _, key, _ in found] == [f"B{row['item_id']}" for row in expected]
    assert [float(score) for _, score, _, _ in found] == pytest.approx([row["score"] for row in expected], abs=0.001)
    assert found[0][3].startswith("Thing <b>")


def test_nothing_that_a_user_has_is_recommended(place: Context, capsys: pytest.CaptureFixture[str]) -> None:
    own = {f"B{row['item_id']}" for row in history_of(place, 2)}
    keys = {key for _, _, key, _ in printed(capsys, "--user", "U2", "--top-k", "100")}
    assert keys == {f"B{item}" for item in range(1, NUM_ITEMS + 1)} - own


def test_a_cold_start_user_gets_a_prompt_without_a_number(
    place: Context, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert recommend.main(["--history", "B4, B9", "--top-k", "3", "--page", str(page)]) == 0
    first, model, *found = capsys.readouterr().out.splitlines()
    assert first == "tiny, a cold-start user: 2 items known, 2 of them shown to the model, prompt A-6"
    assert model == "model: the last trained model, which the gate has not judged; no model was promoted yet"
    keys = [line.split()[2] for line in found]
    assert len(set(keys)) == 3
    assert not {"B4", "B9"} & set(keys)
    text = page.read_text(encoding="utf-8")
    shown = [f"&lt;item_{item}&gt; &lt;extra_id_0&gt; &lt;extra_id_0&gt;" for item in (4, 9)]
    assert f"A-6: After {shown[0]} , {shown[1]} , what will {COLD_START_NAME} buy ?" in text
    assert "user_" not in text
    assert [f"B{number}" for number in re.findall(r"Thing &lt;b&gt;(\d+)&lt;/b&gt;", text)] == ["B4", "B9", *keys]
    assert not re.search(r"<script|https?:|Thing <b>", text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--user", "U31"], "found no user 'U31' in data/tiny/sequences/users; expected U3, U1, U30"),
        (["--history", "B1,B1x"], "found no item 'B1x' in the catalogue; expected B1, "),
        (["--history", " , "], "found an empty history"),
        (["--user", "U1", "--dataset", "toys"], "found dataset 'toys' without a run"),
        (["--user", "U1", "--params", "none.yaml"], "found no file none.yaml"),
        (["--user", "U1", "--params", "short.yaml"], "found no key 'prompts' in short.yaml"),
        (["--history", "B1", "--prompt", "A-3"], "found prompt A-3 for a cold-start user; expected one of: A-4, A-5"),
        (["--user", "U1", "--prompt", "B-5"], "found prompt B-5 for user U1; expected one of: A-1, A-2, A-3"),
        (["--history", "B1", "--page", "no/such/folder/page.html"], "(No such file or directory)"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_one_clear_line(
    caplog: pytest.LogCaptureFixture, arguments: list[str], expected: str
) -> None:
    Path("short.yaml").write_text("dataset: tiny\n", encoding="utf-8")
    with caplog.at_level("ERROR", logger="vip5"):
        assert recommend.main(arguments) in {2, 3}
    (message,) = caplog.messages
    assert expected in message
    assert "\n" not in message


def test_a_missing_model_says_what_to_run(place: Context, caplog: pytest.LogCaptureFixture) -> None:
    folder = place.model("train")
    folder.rename(folder.with_name("away"))
    try:
        assert recommend.main(["--history", "B1"]) == 5
    finally:
        folder.with_name("away").rename(folder)
    assert "expected a trained model; do: run `.venv/bin/dvc repro train`" in caplog.text


@pytest.mark.parametrize("arguments", [[], ["--user", "U1", "--history", "B1"], ["--user", "U1", "--top-k", "0"]])
def test_a_question_that_is_none_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        recommend.main(arguments)


def test_the_dataset_of_a_profile_is_found_by_its_name(place: Context) -> None:
    folder = place.root / "work/profiles/other"
    folder.mkdir(parents=True, exist_ok=True)
    whole = parameters(place)
    other = whole | {"dataset": "other", "datasets": {"other": whole["datasets"]["tiny"]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")
    assert load_settings(Path("params.yaml"), "other").places.dataset == "other"
    assert load_settings(Path("params.yaml"), "tiny").places.dataset == "tiny"


def test_a_history_is_cut_as_the_prompts_were(place: Context) -> None:
    settings = load_settings(Path("params.yaml"))
    assert settings.shown_history([1, 2, 3]) == (1, 2, 3)
    whole = parameters(place)
    whole["prompts"] |= {"max_history": 2}
    Path("cut.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    assert load_settings(Path("cut.yaml")).shown_history([1, 2, 3]) == (2, 3)


def test_templates_without_a_nameless_prompt_are_told() -> None:
    numbered = [prompt for prompt in load_templates() if "{user_id}" in prompt.source]
    user = RequestUser(label="a cold-start user", user_id=None, number=None, name=COLD_START_NAME, history=(1,))
    with pytest.raises(ParamsError, match="none fits"):
        recommend.chosen_prompt(numbered, user, None)


def test_the_prompt_writes_the_users_number_and_not_the_join_key(place: Context) -> None:
    settings = load_settings(Path("params.yaml"))
    user = replace(known_user(settings.places, "U17"), number=4711)
    prompt = recommend.chosen_prompt(load_templates(Path("own.yaml")), user, None)
    assert recommender.recommend(settings, user, prompt=prompt, top_k=1).source.startswith(
        "Here is what user_4711 bought"
    )


def test_near_keys_of_a_large_table_share_the_first_letters() -> None:
    keys = [f"A{number:06}" for number in range(60_000)]
    assert near("A012345x", keys).startswith("A012345")
    assert near("ZZZ", keys) == "a key such as A000000, A000001, A000002"


@pytest.fixture
def champion(evaluated: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    """A copy of the world whose model is champion, with histories cut to 2; nothing of the workspace is left as it was.

    The workspace has other templates and parameters now, and another model that cannot even be read.
    """
    root = Path(shutil.copytree(evaluated.root, tmp_path / "promoted"))
    monkeypatch.chdir(root)
    whole = parameters(evaluated)
    whole["prompts"] |= {"max_history": 2}
    digest, _ = model_registry.seal("tiny", model_registry.copy_to_staging("tiny"), whole)
    about = {"promoted_at": "2026-11-28T19:30:00+00:00", "model": promoted_model.model_digest("tiny")}
    found = model_registry.promote("tiny", digest, about)
    (root / "own.yaml").write_text("prompts: []")
    (root / "models/tiny/train/trained.safetensors").write_bytes(b"another model")
    shutil.rmtree(root / "data/tiny/sequences")
    return found


def test_the_champion_uses_its_own_parameters_and_tables(
    champion: Champion, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert recommend.main(["--user", "U17", "--page", str(page)]) == 0
    first, model, *found = capsys.readouterr().out.splitlines()
    known = re.fullmatch(r"tiny, user U17: (\d+) items known, 2 of them shown to the model, prompt A-3", first)
    assert known
    assert model == f"model: champion {champion.digest}, promoted 2026-11-28 19:30 UTC"
    assert len(found) == NUM_ITEMS - int(known[1])
    assert "A-3: Here is what user_" in page.read_text()
    assert f"champion {champion.digest}" in page.read_text()
    assert recommend.main(["--user", "U17", "--dataset", "tiny", "--params", "no/such.yaml"]) == 0


def test_the_last_trained_model_answers_where_it_is_asked_for(
    champion: Champion, evaluated: Context, caplog: pytest.LogCaptureFixture
) -> None:
    assert recommend.main(["--user", "U17", "--challenger"]) == 4
    assert "no table at data/tiny/sequences/items" in caplog.text
    shutil.copytree(evaluated.table("sequences"), "data/tiny/sequences")
    standing = load_settings(Path("params.yaml"), challenger=True).model
    assert standing == f"the last trained model, which the gate has not judged; the champion is {champion.digest}"
    verdict = {
        "model": promoted_model.model_digest("tiny"),
        "decision": "refuse",
        "reason": "leakage: leaks: 3 of 30 pairs",
    }
    promoted_model.verdict_path("tiny").write_text(json.dumps(verdict))
    standing = load_settings(Path("params.yaml"), challenger=True).model
    assert standing.startswith("the last trained model, which the gate refused (leakage: leaks: 3 of 30 pairs); the")
    promoted_model.verdict_path("tiny").write_text("{")
    assert (
        "the gate may have judged (metrics/tiny/gate.json cannot be read)"
        in load_settings(Path("params.yaml"), challenger=True).model
    )


@pytest.mark.parametrize("part", ["champion_manifest.json", "data/tiny/identifiers/_manifest.json", ""])
def test_a_damaged_champion_is_one_line_and_no_answer(
    champion: Champion, part: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = champion.folder / part
    damaged.rename(damaged.with_name("away"))
    assert recommend.main(["--user", "U17"]) == 5
    (message,) = caplog.messages
    assert message.startswith("recommend: found ")
    assert champion.digest in message
    assert message.endswith("use another champion (.venv/bin/python -m flows.champion tiny --use DIGEST) or retrain")
    assert capsys.readouterr().out == ""


def test_a_user_unknown_to_the_champion_is_told_of_challenger(
    champion: Champion, caplog: pytest.LogCaptureFixture
) -> None:
    assert recommend.main(["--user", "U31"]) == 3
    assert "or give --history, or ask the last trained model with --challenger" in caplog.text


def test_photos_come_from_the_dump_and_are_not_missed(
    champion: Champion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(load_settings(Path("params.yaml")), photos=Path("data/raw/tiny/photos"))
    catalogue = Catalogue.load(settings.places)
    user = known_user(settings.places, "U17")
    prompt = recommend.chosen_prompt(load_templates(settings.templates), user, None)
    answer = recommender.recommend(settings, user, prompt=prompt, top_k=2)
    recommend.write_page(tmp_path / "page.html", settings, user, answer, catalogue)
    assert "no photo folder data/raw/tiny/photos: the page shows no photos" in caplog.text
    assert "<img" not in (tmp_path / "page.html").read_text()


def test_the_gate_accepts_every_measured_baseline(evaluated: Context) -> None:
    measured = json.loads(evaluated.metrics("evaluate.json").read_text())["baselines"]["sequential"]
    assert {"popularity", "item_knn", "title_bm25"} <= set(measured)
    assert set(measured) - {"number_rule"} <= set(get_args(Baseline))
