"""Names of datasets and profiles: what a shell, DVC or a file system would read otherwise is refused at once."""

import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ParamsError
from features.runtime.names import checked_name, is_name, safe_name
from features.runtime.params import load_params
from features.runtime.profile_names import profile_names
from features.runtime.profiles import dump_params, merged
from flows import champion, export, ingest, retrain, serve, trigger
from flows.installing import preflight
from flows.pipeline.derived_pipeline import derive, write_pipeline
from pipelines import records

UNSAFE = {
    "Home&Kitchen": "home_kitchen", "a b": "a_b", "Video.Games": "video_games", "e;touch X;x": "e_touch_x_x",
    "../../../etc": "etc", "Bücher": "bucher", "$(id)": "id", "-rf": "rf", "raw": "raw_data", "": "my_dataset",
    "a/b": "a_b", "x" * 65: "x" * 64, "${seed}": "seed", "a\nb": "a_b",
}  # fmt: skip
ENTRY = {"format": "amazon2014", "reviews": ["r.json"], "metadata": []}


def write(folder: Path, name: object, *, key: object = None) -> Path:
    """Writes params.yaml with dataset `name` and an entry under `key`, or else under `name`."""
    entries = {name if key is None else key: ENTRY}
    whole = {"dataset": name, "seed": 1, "datasets": entries, "tokenizers": {}, "records": {}, "beam": {}}
    (folder / "params.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    return folder / "params.yaml"


@pytest.mark.parametrize(("name", "safe"), UNSAFE.items())
def test_an_unsafe_name_is_told_a_safe_one(name: str, safe: str) -> None:
    with pytest.raises(ParamsError) as raised:
        checked_name(name, "dataset")
    assert "\n" not in str(raised.value)
    assert f"do: name it {safe} everywhere" in str(raised.value)
    assert checked_name(safe, "dataset") == safe


@given(st.text())
def test_every_text_has_a_safe_name(text: str) -> None:
    assert is_name(safe_name(text))


@given(st.one_of(st.text(), st.from_regex(r"[\w-]+", fullmatch=True)))
def test_no_name_means_more_than_a_word_to_the_shell(name: str) -> None:
    pipeline = {"stages": {"one": {"cmd": "python -m one", "params": ["dataset"], "outs": ["data/${dataset}/one"]}}}
    try:
        dataset = checked_name(name, "dataset")
    except ParamsError:
        return
    made = derive(pipeline, {"dataset": dataset}, f"work/profiles/{dataset}/params.yaml")["stages"]["one"]
    assert made["cmd"] == f"python -m one --params work/profiles/{dataset}/params.yaml"
    assert [shlex.quote(word) for word in made["cmd"].split(" ")] == shlex.split(made["cmd"])
    assert shlex.quote(made["outs"][0]) == made["outs"][0]


def test_a_number_is_taken_as_its_text(workspace: Path) -> None:
    whole = load_params(write(workspace, 2023))
    assert (whole["dataset"], list(whole["datasets"])) == ("2023", ["2023"])
    assert list(dump_params("2023")["datasets"]) == ["2023"]


@pytest.mark.parametrize("name", [True, 1.5])
def test_other_values_are_told_to_be_quoted(workspace: Path, name: object) -> None:
    with pytest.raises(ParamsError, match=f"do: write it in quotes: '{name}'"):
        load_params(write(workspace, "toys", key=name))


@pytest.mark.parametrize("name", ["Home&Kitchen", "../../../etc", "e;touch X;x"])
def test_params_files_are_refused_before_anything_runs(
    workspace: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(workspace, name)
    assert records.main(["--params", str(path)]) == 2
    write(workspace, "toys", key=name)
    assert records.main(["--params", str(path)]) == 2
    assert caplog.text.count(f"found dataset name {name!r}") == 2
    assert [entry.name for entry in workspace.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    "command",
    [
        lambda name: champion.main([name]),
        lambda name: export.main([name, "--to", "csv"]),
        lambda name: ingest.main([name]),
        lambda name: retrain.main([name, "--plain"]),
        lambda name: serve.main([name, "--cron", "0 3 * * 1"]),
        lambda name: trigger.main(["retrain", name]),
    ],
    ids=["champion", "export", "ingest", "retrain", "serve", "trigger"],
)
def test_commands_refuse_the_name_at_once(workspace: Path, command: object, caplog: pytest.LogCaptureFixture) -> None:
    write(workspace, "toys")
    assert callable(command)
    assert command("e;touch X;x") == 2
    assert "dataset name 'e;touch X;x'" in caplog.text
    assert "do: name it e_touch_x_x everywhere" in caplog.text
    assert not (workspace / "X").exists()


def test_profiles_are_refused_by_name_and_by_dataset(workspace: Path) -> None:
    write(workspace, "toys")
    (workspace / "profiles").mkdir()
    (workspace / "profiles/a b.yaml").write_text("seed: 2\n", encoding="utf-8")
    (workspace / "profiles/bad.yaml").write_text("dataset: e;touch X;x\n", encoding="utf-8")
    (workspace / "profiles/out.yaml").write_text("extends: ../params\n", encoding="utf-8")
    assert profile_names() == ["bad", "out"]
    with pytest.raises(ParamsError, match=r"profile name 'a b'.* do: name it a_b everywhere"):
        merged(["a b"])
    with pytest.raises(ParamsError, match="dataset name 'e;touch X;x'"):
        write_pipeline(["bad"])
    with pytest.raises(ParamsError, match=r"profile name '\.\./params'"):
        merged(["out"])
    with pytest.raises(preflight.Stop, match=r"name it e_touch_x_x: profiles/e_touch_x_x\.yaml"):
        preflight.check_profiles(["e;touch X;x"], workspace)
    assert not (workspace / "work").exists()
