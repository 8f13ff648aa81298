"""The profiles of docs/guides/pretrained-weights.md are valid, and lead a downloaded T5 into the pipeline."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from features.runtime.params import build, load_yaml
from flows import ingest
from flows.pipeline.derived_pipeline import write_pipeline
from modeling.config.model import BackboneParams
from modeling.models.t5 import open_t5, tokenizer_folder
from tests.modeling.stock_t5 import write_stock

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guides/pretrained-weights.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the profiles of the guide."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    blocks = [token for token in MarkdownIt().parse(GUIDE.read_text(encoding="utf-8")) if token.info == "yaml"]
    for name, block in zip(("t5_small", "toys_2014"), blocks, strict=True):
        (tmp_path / "profiles" / f"{name}.yaml").write_text(block.content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path


@pytest.mark.parametrize("names", [["toys_2014", "t5_small"], ["toys_2014", "paper", "t5_small"]])
def test_the_profiles_of_the_guide_bring_a_t5_in(folder: Path, names: list[str]) -> None:
    downloads = folder / "downloads"
    write_stock(downloads, "t5-small")
    assert ingest.main(["t5_small", "--from", str(downloads)]) == 0
    entry: Any = yaml.safe_load((folder / "profiles/toys_2014.yaml").read_text(encoding="utf-8"))["datasets"][
        "toys_2014"
    ]
    for name in (*entry["reviews"], *entry["metadata"]):
        (downloads / name).write_bytes(b"lines")
    (downloads / "photos").mkdir()
    (downloads / "photos" / "B01.jpg").write_bytes(b"photo")
    assert ingest.main(["toys_2014", "--from", str(downloads)]) == 0

    pipeline = write_pipeline(names)
    stages = load_yaml(pipeline)["stages"]
    assert "data/raw/t5_small" in stages["pretrain"]["deps"]
    params = load_yaml(pipeline.with_name("params.yaml"))
    backbone = build(BackboneParams, params["backbone"], where="backbone")
    assert tokenizer_folder(backbone) == Path("data/raw/t5_small")
    assert open_t5(backbone, vocabulary_size=300, dropout=0.0, seed=1).shared.weight.shape == (300, 16)
    assert params["clip"]["pretrained"] == "openai"
    assert params["train"]["tune"] == "parts"
