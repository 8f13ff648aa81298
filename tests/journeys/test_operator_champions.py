"""The operator retrains: a model that loses to baselines is not promoted; back and forth between two champions."""

import json
import re
from collections.abc import Callable

from dvc.utils.hydra import apply_overrides

from tests.journeys.person import Person, Said
from tests.journeys.test_wants_recommendations import column

NUMBER = r"[+-]?\d\.\d{4}"
INTERVAL = rf"\[{NUMBER}, {NUMBER}\]"


def write_params(person: Person, *values: str) -> None:
    """Sets values in params.yaml, as `dvc exp run -S` writes them."""
    apply_overrides(person.folder / "params.yaml", [f"++{value}" for value in values])


def train_well(person: Person) -> None:
    """Lets item vectors start from titles and purchases: a model that learns the sample in seconds."""
    write_params(
        person, "backbone.scratch.init=recency", "backbone.scratch.embedding_scale=1.0",
        "pretrain.families=[sequential,direct,explanation]", "pretrain.item_embedding_init=titles",
        "pretrain.teacher.embedding_distillation_steps=300", "pretrain.optimizer.learning_rate=0.0001",
        "train.optimizer.learning_rate=0.0001",
    )  # fmt: skip


def test_weak_models_stay_out_and_champions_can_be_switched(
    after_demo: Callable[[], Person],
) -> None:
    operator = after_demo()
    no_champion_yet(operator)
    loses_to_baselines(operator)
    first = promoted_by_name(operator)
    second = promoted_because_better(operator, first)
    back_and_forth(operator, first, second)
    damaged(operator, first, second)


def no_champion_yet(operator: Person) -> None:
    said = operator.types(".venv/bin/python -m flows.champion NAME", NAME="sample")
    assert said.text.startswith("sample: no model was promoted yet; `.venv/bin/python -m flows.retrain sample`")
    said = operator.types(".venv/bin/python -m flows.champion NAME", NAME="toys")  # known, though it has never run
    assert said.text.startswith("toys: no model was promoted yet")
    said = operator.types(".venv/bin/python -m flows.champion NAME", NAME="smaple", ends=2)
    assert said.lines == [
        "champion: found dataset 'smaple'; expected sample (the nearest known); do: name a dataset of params.yaml"
    ]


def loses_to_baselines(operator: Person) -> None:
    said = operator.types(".venv/bin/python -m flows.retrain NAME --plain", NAME="sample")
    lost = rf"NO +A-3 ndcg@10 against item_knn +loses by 0\.\d{{4}} {INTERVAL} \(0\.\d{{4}}, the baseline 0\.\d{{4}}\)"
    assert re.search(lost, said.text), said.text
    assert "write in params.yaml: retrain.gate.may_lose_to: [item_knn, title_bm25]" in said.text
    assert decision(said).startswith("retrain: sample: not promoted; there is no champion yet (A-3 ndcg@10 against ")
    assert not (operator.folder / "models/sample/champion.json").exists()


def decision(said: Said) -> str:
    """The log line with the decision of a retrain; the verdict on the model follows it."""
    return next(line for line in said.lines if re.match(r"retrain: \w+: (not )?promoted", line))


def promoted_by_name(operator: Person) -> str:
    """Allows the two baselines that stood in the way, and returns the first champion's digest."""
    write_params(operator, "retrain.gate.may_lose_to=[item_knn,title_bm]")
    said = operator.types(".venv/bin/python -m flows.retrain NAME --plain", NAME="sample", ends=2, within=20)
    (message,) = said.lines
    assert message.startswith("retrain: found retrain.gate.may_lose_to[1] = 'title_bm'; expected title_bm25, ")
    write_params(operator, "retrain.gate.may_lose_to=[item_knn,title_bm25]")
    said = operator.types(".venv/bin/python -m flows.retrain NAME --plain", NAME="sample")
    assert re.search(r"retrain: sample: promoted \(every check passed; A-3 .* loses by .* allows\)", decision(said))
    said = operator.types(".venv/bin/python -m flows.champion NAME", NAME="sample")
    entry = [
        r"sample: 1 promoted model, oldest first", r"\* [0-9a-f]{16}  the champion",
        r"    promoted   \d{4}-\d\d-\d\d \d\d:\d\d UTC, run [0-9a-f]{12}",
        r"    code       git [0-9a-f]{12}, with changes that were not committed",
        r"    data       [\d,]+ users, \d+ items, [\d,]+ interactions \(interactions [0-9a-f]{8}\)",
        rf"    metric     A-3 ndcg@10 {NUMBER} {INTERVAL}",
        rf"    baseline   item_knn {NUMBER} {INTERVAL}, the best of 10; the model against it: loses by .*",
    ]  # fmt: skip
    assert len(said.lines) == len(entry), said.text
    assert all(map(re.fullmatch, entry, said.lines)), said.text
    return said.lines[1].split()[1]


def promoted_because_better(operator: Person, first: str) -> str:
    write_params(operator, "retrain.recommend=false", "retrain.gate.may_lose_to=[]")
    train_well(operator)
    said = operator.types(".venv/bin/python -m flows.retrain NAME --plain", NAME="sample", within=300)
    assert re.search(rf"yes +A-3 ndcg@10 +\+0\.\d{{4}} {INTERVAL} on 160 users of both", said.text)
    drift = said.text.partition(f"data since champion {first}: stable\n")[2].splitlines()
    assert re.fullmatch(r"  stable +users +0 came, 0 went, 160 now", drift[0])
    assert re.fullmatch(r"  stable +ratings +population stability index 0\.0000", drift[2])
    assert decision(said) == "retrain: sample: promoted (every check passed)"
    assert json.loads((operator.folder / "reports/sample/drift.json").read_text())["verdict"] == "stable"
    last = (operator.folder / "metrics/history.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["drift"]["verdict"] == "stable"
    said = operator.types(".venv/bin/python -m flows.champion NAME", NAME="sample")
    listed = [line for line in said.lines if line[0] in "*-"]
    assert listed[0] == f"- {first}"
    assert listed[1].startswith("* ")
    return listed[1].split()[1]


def back_and_forth(operator: Person, first: str, second: str) -> None:
    assert f"model: champion {second}, promoted " in ask(operator)
    few = next(first[:length] for length in range(1, 17) if first[:length] != second[:length])
    said = operator.types(".venv/bin/python -m flows.champion NAME --use DIGEST", NAME="sample", DIGEST=few)
    assert f"* {first}  the champion" in said.lines
    answer = ask(operator)
    assert f"model: champion {first}, promoted " in answer
    other = operator.types(".venv/bin/python -m modeling.recommend --user KEY --challenger", KEY=a_user(operator)).text
    assert f"model: the last trained model, which the gate promoted; the champion is {first}" in other
    assert other.splitlines()[2:] != answer.splitlines()[2:]
    said = operator.types(".venv/bin/python -m flows.champion NAME --use DIGEST", NAME="sample", DIGEST="x", ends=3)
    (message,) = said.lines
    assert message == (
        f"champion: found no champion 'x' of sample; expected one of: {first}, {second}; "
        "do: name one of them by its first digits"
    )
    operator.types(".venv/bin/python -m flows.champion NAME --use DIGEST", NAME="sample", DIGEST=second)
    assert f"* {second}  the champion" in operator.types(".venv/bin/python -m flows.champion NAME", NAME="sample").lines


def damaged(operator: Person, first: str, second: str) -> None:
    model = operator.folder / f"models/sample/champions/{second}/models/sample/train/trained.safetensors"
    model.unlink()
    said = operator.types(".venv/bin/python -m modeling.recommend --user KEY", KEY="any", ends=5, within=20)
    remedy = "use another champion (.venv/bin/python -m flows.champion sample --use DIGEST) or retrain"
    assert len(said.lines) == 1
    assert said.lines[0].startswith(f"recommend: found models/sample/champions/{second}/models/sample/train/")
    assert said.lines[0].endswith(f"do: {remedy}")
    said = operator.types(".venv/bin/python -m flows.champion NAME", NAME="sample", ends=5)
    assert re.search(r"    DAMAGED +models/sample/champions/.* with another size than in the manifest", said.text)
    said = operator.types(".venv/bin/python -m flows.champion NAME --use DIGEST", NAME="sample", DIGEST=first)
    assert f"* {first}  the champion" in said.lines


def a_user(person: Person) -> str:
    return str(column(person, "sequences/users", "user_key")[0])


def ask(person: Person) -> str:
    return person.types(".venv/bin/python -m modeling.recommend --user KEY", KEY=a_user(person)).text
