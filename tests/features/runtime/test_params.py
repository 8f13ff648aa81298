import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from features.errors import ParamsError
from features.runtime.params import build, digest, load_yaml, merge, nearest


@dataclass(frozen=True, kw_only=True)
class Scratch:
    layers: int = 2


@dataclass(frozen=True, kw_only=True)
class Params:
    k_core: int
    rate: float = 0.5
    name: str | None = None
    numbering: Literal["random", "p5"] = "random"
    clip: bool = False
    tags: tuple[str, ...] = ()
    urls: dict[str, str] = field(default_factory=dict)
    scratch: Scratch | None = None

    def __post_init__(self) -> None:
        if self.k_core < 1:
            raise ValueError(f"k_core = {self.k_core} must be at least 1")


def test_build_converts_lists_numbers_and_nested_sections() -> None:
    built = build(Params, {"k_core": 5, "rate": 1, "tags": ["a"], "scratch": {"layers": 3}}, where="records")
    assert built == Params(k_core=5, rate=1.0, tags=("a",), scratch=Scratch(layers=3))
    assert isinstance(built.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k_cor": 5}, "found parameter records.k_cor; expected k_core (the nearest known); do: rename or remove it"),
        ({}, "found no parameter records.k_core; expected a value of type int; do: add it to params.yaml"),
        ({"k_core": "5"}, "found records.k_core = '5' (str); expected type int; do: change it in params.yaml"),
        ({"k_core": True}, "found records.k_core = True (bool); expected type int; do: change it in params.yaml"),
        ({"k_core": 1, "clip": 1}, "found records.clip = 1 (int); expected type bool; do: change it in params.yaml"),
        (
            {"k_core": 0},
            "found records: k_core = 0 must be at least 1; expected a value in range; do: change it in params.yaml",
        ),
        (
            {"k_core": 1, "numbering": "randm"},
            "found records.numbering = 'randm'; expected random (the nearest known); do: choose one of them",
        ),
        (
            {"k_core": 1, "tags": "a"},
            "found records.tags = 'a' (str); expected type tuple[str, ...]; do: change it in params.yaml",
        ),
        (
            {"k_core": 1, "scratch": {"layer": 3}},
            "found parameter records.scratch.layer; expected layers (the nearest known); do: rename or remove it",
        ),
    ],
)  # fmt: skip
def test_build_names_the_key_and_what_would_be_right(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        build(Params, values, where="records")
    assert str(caught.value) == message


def test_merge_lays_nested_keys_over_and_replaces_lists() -> None:
    base = {"train": {"epochs": 3, "tags": ["a", "b"]}, "seed": 1}
    assert merge(base, {"train": {"tags": ["c"]}}) == {"train": {"epochs": 3, "tags": ["c"]}, "seed": 1}
    assert base == {"train": {"epochs": 3, "tags": ["a", "b"]}, "seed": 1}


def test_merge_rejects_unknown_sections() -> None:
    with pytest.raises(ParamsError, match=r"found section trian in the profile; expected train \(the nearest known\)"):
        merge({"train": {"epochs": 3}}, {"trian": {"epochs": 4}})


def test_merge_admits_keys_that_the_base_leaves_at_their_default() -> None:
    assert merge({"train": {}, "beam": None}, {"train": {"epochs": 4}, "beam": {"runner": "x"}}) == {
        "train": {"epochs": 4}, "beam": {"runner": "x"},
    }  # fmt: skip


def test_merge_admits_new_datasets() -> None:
    merged = merge({"datasets": {"a": {"format": "p5"}}}, {"datasets": {"b": {"format": "p5", "reviews": []}}})
    assert merged["datasets"] == {"a": {"format": "p5"}, "b": {"format": "p5", "reviews": []}}


@pytest.mark.parametrize(
    ("text", "found"), [("a: [", "that is not YAML"), ("- a\n", "holding list"), ("", "holding NoneType")]
)
def test_load_yaml_says_what_the_file_holds(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        load_yaml(path)
    assert found in caught.value.found


def test_load_yaml_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no file .*gone\.yaml"):
        load_yaml(tmp_path / "gone.yaml")


def test_nearest_lists_everything_where_nothing_is_near() -> None:
    assert nearest("zzz", ["toys", "beauty"]) == "one of: toys, beauty"


def test_digest_ignores_the_order_of_keys_and_sees_every_value() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(Params(k_core=5)) != digest(Params(k_core=6))
    assert len(digest({})) == 16


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "of more than 1,000,000 values"),
        ("a: &a\n  b: *a\n", "of more than 1,000,000 values"),
        ("a: " + "[" * 5_000, "that is not YAML"),
        ("a: '\xff'", "that is not YAML"),
        ("a: \x01", "that is not YAML"),
    ],
)
def test_hostile_yaml_ends_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_bytes(text.encode("latin-1"))
    start = time.process_time()
    with pytest.raises(ParamsError, match=message) as caught:
        load_yaml(tmp_path / "params.yaml")
    assert time.process_time() - start < 10
    assert "\n" not in str(caught.value)


def test_a_few_aliases_are_fine(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: &a {b: 1}\nc: *a\n", encoding="utf-8")
    assert load_yaml(tmp_path / "params.yaml") == {"a": {"b": 1}, "c": {"b": 1}}
