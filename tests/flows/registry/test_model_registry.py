"""The model registry: champions are listed, switched and verified."""

import shutil
from pathlib import Path

import pytest

from features.errors import InputError, ModelError, ParamsError
from flows import champion
from flows.registry import champion_report, model_registry
from modeling.serving import promoted_model as promoted_models
from tests.flows import tiny
from tests.flows.tiny import quality, retrain, without_dvc

pytestmark = pytest.mark.dvc


def test_an_earlier_champion_can_be_used_again(
    ready: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(ready, tmp_path / "copy"))
    without_dvc(monkeypatch)
    retrain(folder)
    monkeypatch.chdir(folder)
    first, second = (model.digest for model in model_registry.promoted_models("tiny"))
    assert quality(folder) == 0.2
    assert champion.main(["tiny"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[:1] in "*-" and line] == [
        f"- {first}", f"* {second}  the champion"
    ]  # fmt: skip
    few = next(first[:length] for length in range(1, 17) if first[:length] != second[:length])
    assert champion.main(["tiny", "--use", few]) == 0
    assert f"* {first}  the champion" in capsys.readouterr().out
    assert quality(folder) == 0.1
    assert champion.main(["tiny", "--use", "nosuch"]) == 3
    assert f"found no champion 'nosuch' of tiny; expected one of: {first}, {second}; " in caplog.text
    assert champion.main(["tiny", "--use", ""]) == 3
    assert quality(folder) == 0.1


def test_digits_that_two_champions_begin_with_are_refused(tmp_path: Path) -> None:
    home = promoted_models.home("tiny", tmp_path)
    home.mkdir(parents=True)
    for digest in ("ab12" * 4, "ab34" * 4):
        (home / f"{digest}.about.json").write_text('{"promoted_at": "2026-11-28T19:30:00+00:00"}')
    message = (
        r"found 2 champions of tiny that begin with 'ab'; expected one of: (ab12){4}, (ab34){4}; do: write more digits"
    )
    with pytest.raises(InputError, match=message):
        model_registry.use("tiny", "ab", tmp_path)


def test_a_promoted_model_is_listed_with_code_and_metrics(promoted: Path) -> None:
    now = promoted_models.current("tiny", promoted)
    assert now is not None
    revision = tiny.git(promoted, "rev-parse", "HEAD").strip()
    assert champion_report.report("tiny", promoted) == [
        "tiny: 1 promoted model, oldest first", "", f"* {now.digest}  the champion",
        f"    promoted   {now.promoted_at}, run first", f"    code       git {revision[:12]}",
        f"    data       500 users (dump {now.about['data']['raw'][:8]})",
        "    metric     A-3 ndcg@10 0.1000 [0.0900, 0.1100]",
        "    baseline   popularity 0.0500, the best of 3; the model against it: wins by 0.0500 [0.0400, 0.0600]",
    ]  # fmt: skip


def test_an_unknown_dataset_is_reported_with_the_nearest_name(promoted: Path) -> None:
    champion.check_name("tiny", promoted)
    with pytest.raises(ParamsError, match="found dataset 'tony'; expected tiny "):
        champion.check_name("tony", promoted)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"digest": "x", "about": {}}', '{"digest": "../../../../x", "about": {}}']
)
def test_a_pointer_that_names_no_champion_is_one_line(tmp_path: Path, content: str) -> None:
    path = promoted_models.pointer_path("tiny", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ModelError, match=r"champion\.json that .* --use DIGEST\) or retrain"):
        promoted_models.current("tiny", tmp_path)


def test_a_champion_that_was_tampered_with_is_noticed(folder: Path) -> None:
    now = promoted_models.current("tiny", folder)
    assert now is not None
    model = now.folder / "models/tiny/train/model.txt"
    assert model.stat().st_mode & 0o222 == 0
    size = model.stat().st_size
    model.chmod(0o644)
    model.write_text("x" * size)
    with pytest.raises(ModelError, match="with another checksum than in the manifest"):
        promoted_models.check(now.folder, whole=True)
    model.write_text("short")
    with pytest.raises(ModelError, match="with another size than in the manifest"):
        promoted_models.current("tiny", folder)
