"""`params.yaml` is short, in data order, and repeats no default; profiles and file have known keys only."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from features.errors import ParamsError
from features.runtime.params import load_yaml
from features.runtime.profiles import merged
from flows.pipeline.sections import SECTIONS, built, class_of, with_defaults

ROOT = Path(__file__).parents[1]
PARAMS = load_yaml(ROOT / "params.yaml")
SHOWN = {
    "sequences.k_core": "the first thing that the user of a small dump changes",
    "evaluate.max_users": "the guide's example of an experiment",
}
"""Parameters that the file shows at their default, and why; the test below holds them to that default."""
PROFILES = [
    ["toys"],
    ["beauty"],
    ["gift_cards"],
    ["musical_instruments"],
    ["all_users"],
    ["quick"],
    ["paper"],
    ["toys", "paper"],
]


def set_values(cls: Any, values: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any, Any]]:
    """Yields name, value and default of every key that `values` sets, nested groups included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name not in values:
            continue
        value, name = values[field.name], f"{where}.{field.name}"
        kinds = (hints[field.name], *typing.get_args(hints[field.name]))
        group = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if group is not None and isinstance(value, dict):
            yield from set_values(group, value, name)
        elif field.default_factory is not dataclasses.MISSING:
            yield name, value, field.default_factory()
        else:
            yield name, tuple(value) if isinstance(value, list) else value, field.default


def test_the_file_is_short_and_in_data_order() -> None:
    assert len((ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()) <= 200
    assert [name for name in PARAMS if name in SECTIONS] == list(SECTIONS)
    stages = list(load_yaml(ROOT / "dvc.yaml")["stages"])
    assert set(stages) <= set(SECTIONS)


def test_a_default_has_one_place() -> None:
    repeated = {
        name
        for section in SECTIONS
        for name, value, default in set_values(class_of(section), PARAMS[section], section)
        if value == default
    }
    assert repeated == set(SHOWN)


@pytest.mark.parametrize("names", [[], *PROFILES], ids="+".join)
def test_every_key_of_file_and_profiles_is_known(names: list[str]) -> None:
    assert [section for section, _ in built(merged(names, ROOT))] == list(SECTIONS)


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(ParamsError) as caught:
        list(built({"train": {"optimizer": {"learning_rat": 1.0}}}))
    assert str(caught.value) == (
        "found parameter train.optimizer.learning_rat; expected learning_rate (the nearest known); "
        "do: rename or remove it"
    )
    with pytest.raises(ParamsError, match=r"found train\.optimizer: learning_rate must be above 0"):
        list(built({"train": {"optimizer": {"learning_rate": 0.0}}}))


def test_filled_parameters_have_every_field_as_plain_values() -> None:
    filled = with_defaults({"dataset": "x", "train": {"schedule": {"epochs": 3}}, "made": {"a": 1}})
    assert (filled["dataset"], filled["made"]) == ("x", {"a": 1})
    assert filled["train"]["schedule"] == {"epochs": 3, "max_steps": None, "max_seconds": None, "warmup_share": 0.1}
    assert filled["train"]["optimizer"]["betas"] == [0.9, 0.999]
    assert with_defaults(filled) == filled
