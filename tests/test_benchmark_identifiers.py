"""The comparison of identifiers: parameters, shared tables, codebook use, and the ranking of a trained model."""

from pathlib import Path

import pytest
import yaml

from benchmarks import identifiers as bench
from features import identifiers, schema
from features.errors import InputError
from features.runtime import stage
from features.runtime.profiles import merged
from features.store.tables import Provenance, from_rows, write_table
from modeling import evaluate
from tests.modeling.evaluated import write_evaluated

SETTINGS = bench.Settings(pretrain_seconds=2, train_seconds=1, max_users=4, free_users=2, prompt="A-3", resamples=20)


def test_a_scheme_shares_the_tables_and_has_its_own_parameters(tmp_path: Path) -> None:
    schedule, validation = {"epochs": 2, "max_seconds": None}, {"checkpoint_metric": "loss"}
    params = {
        "dataset": "tiny", "identifiers": {"scheme": "token", "levels": 3},
        "pretrain": {"schedule": schedule, "validation": validation},
        "train": {"schedule": schedule | {"epochs": 5}, "validation": validation},
    }  # fmt: skip
    source, folder = tmp_path / "source", tmp_path / "work" / "tiny" / "semantic"
    with pytest.raises(InputError, match="sequences"):
        bench.prepare(folder, source, params, "semantic", SETTINGS)
    for name in bench.SHARED:
        (source / "data" / "tiny" / name).mkdir(parents=True)
    (source / "data" / "tiny" / "prompts").mkdir()
    for _ in range(2):  # a second run starts over and keeps the shared tables
        (folder / "models").mkdir(parents=True, exist_ok=True)
        bench.prepare(folder, source, params, "semantic", SETTINGS)
    assert not (folder / "models").exists()
    assert sorted(path.name for path in (folder / "data" / "tiny").iterdir()) == sorted(bench.SHARED)
    assert (folder / "data" / "tiny" / "texts").samefile(source / "data" / "tiny" / "texts")
    own = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    assert own["identifiers"] == {"scheme": "semantic", "levels": 3}
    assert own["pretrain"]["schedule"] == {"epochs": 2, "max_seconds": 2}
    assert own["train"]["schedule"] == {"epochs": 5, "max_seconds": 1}
    assert own["pretrain"]["validation"] == own["train"]["validation"] == {"checkpoint_metric": "last"}


@pytest.mark.parametrize(
    ("scheme", "vectors", "init"), [("number", "random", "identity"), ("token", "titles", "recency")]
)
def test_plain_numbers_start_where_no_token_says_item(
    root: Path, tmp_path: Path, scheme: str, vectors: str, init: str
) -> None:
    for name in bench.SHARED:
        (tmp_path / "data" / "toys" / name).mkdir(parents=True)
    bench.prepare(tmp_path / "own", tmp_path, merged(["toys"], root), scheme, SETTINGS)
    own = yaml.safe_load((tmp_path / "own" / "params.yaml").read_text(encoding="utf-8"))
    assert own["pretrain"]["item_embedding_init"] == vectors
    assert own["backbone"]["scratch"]["init"] == init


def test_codebook_use_is_counted_level_by_level(tmp_path: Path) -> None:
    codes = [[0, 1, 0], [0, 1, 1], [3, 2, 0]]
    rows = [
        {"item_id": item, "code": code, "text": identifiers.write_code(code, "semantic")}
        for item, code in enumerate(codes, start=1)
    ]
    context = stage.Context(dataset="tiny", seed=1, shared={}, root=tmp_path)
    notes = {"scheme": "semantic", "collisions": 1, "code_length": 3, "tokens": 6}
    made = Provenance(stage="identifiers", params={}, notes=notes)
    write_table(context.table("identifiers"), schema.IDENTIFIERS, from_rows(schema.IDENTIFIERS, rows), made)
    found = bench.codebook(context, {"identifiers": {"codebook_size": None}})
    assert found == {"tokens": 6, "collisions": 1, "code_length": 3, "used": ["2/4", "2/4"]}


def test_a_trained_model_is_ranked_with_intervals(tmp_path: Path) -> None:
    context = write_evaluated(tmp_path)
    found = bench.rank(context, SETTINGS, evaluate.Params(beam=4, top_k=10))
    assert found["num_users"] == 4
    for name in bench.METRICS:
        low, high = found["ci95"][name]
        assert low <= found[name] <= high
    assert set(found["free"]) == {"invalid_share", "repeated_share", "seen_share"}
    row = found | {"collisions": 2, "used": ["4/4", "3/4"]}
    header, _, line = bench.table({"semantic": row}, "A-3")
    assert header.startswith("A-3")
    assert f"{found['hr@10']:.4f} [{found['ci95']['hr@10'][0]:.4f}" in line
    assert f"1.000  {1 - found['free']['invalid_share']:.3f}" in line
    assert "4/4 3/4" in line
