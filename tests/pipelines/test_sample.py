import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.runtime.stage import Context
from pipelines import sample
from pipelines.synthetic import dump_files, texts
from pipelines.synthetic import photos as sample_photos
from pipelines.synthetic import world as sample_world
from pipelines.synthetic.world import CATEGORIES, NUM_STYLES

SEED = 2022
DEFAULTS = sample.Params()
COLOURS = {
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "violet",
    "pink",
    "cyan",
    "magenta",
    "colour",
    "color",
    "striped",
}


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    sample.run(sample.Params(), Context(dataset="sample", root=root, seed=SEED, shared={}))
    return root / "data" / "raw" / "sample"


@pytest.fixture(scope="module")
def world() -> sample_world.World:
    return sample_world.plan(sample.Params(), SEED)


def photos_of(dump: Path) -> dict[str, bytes]:
    with tarfile.open(dump / sample.PHOTOS) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_the_dump_depends_on_the_seed_alone(dump: Path, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    for name, seed in (("same", SEED), ("other", 7)):
        sample.run(sample.Params(), Context(dataset="toys", root=tmp_path / name, seed=seed, shared={}))
    same, other = (digests(tmp_path / name / "data" / "raw" / "sample") for name in ("same", "other"))
    assert digests(dump) == same
    assert all(same[name] != other[name] for name in same)


def test_the_next_style_follows_the_style_of_the_last_photo(world: sample_world.World) -> None:
    followed = [
        world.items[after.item].style == world.successor[world.items[before.item].style]
        for before, after in zip(world.purchases, world.purchases[1:], strict=False)
        if before.user == after.user < 400 and before.timestamp <= after.timestamp
    ]
    assert len(followed) > 2400
    assert 0.97 < np.mean(followed) < 0.995  # .98, and an eighth of the rest by chance


def test_the_successor_is_one_cycle_through_all_styles(world: sample_world.World) -> None:
    style, seen = 0, []
    for _ in range(NUM_STYLES):
        seen.append(style)
        style = world.successor[style]
    assert style == 0
    assert sorted(seen) == list(range(NUM_STYLES))


def test_most_purchases_lie_in_the_users_two_categories(world: sample_world.World) -> None:
    liked = [world.items[p.item].category in world.users[p.user].tastes for p in world.purchases if p.user < 400]
    assert 0.9 < np.mean(liked) < 0.98


def test_only_planted_duplicates_repeat_a_purchase(world: sample_world.World) -> None:
    pairs = [(p.user, p.item) for p in world.purchases]
    assert len(pairs) - len(set(pairs)) == sample.Params().num_duplicate_reviews


def test_keys_say_nothing_about_style_or_category(world: sample_world.World) -> None:
    ordered = sorted(world.items, key=lambda item: item.key)
    for truth in ("style", "category"):
        values = np.array([getattr(item, truth) for item in ordered], dtype=float)
        assert abs(np.corrcoef(np.arange(len(values)), values)[0, 1]) < 0.12
        assert np.mean(values[1:] == values[:-1]) < 2.0 / len(set(values))


def test_no_text_speaks_of_a_colour_or_pattern(dump: Path) -> None:
    text = b"".join(gzip.decompress((dump / name).read_bytes()) for name in (sample.REVIEWS, sample.METADATA))
    words = set(text.decode("utf-8", errors="ignore").lower().replace(".", " ").split())
    assert words.isdisjoint(COLOURS)
    assert b"style" not in text


def test_texts_do_not_depend_on_the_style() -> None:
    def words(style: int) -> list[str]:
        item = sample_world.Item("B0AAAAAAAA", 2, style, 0, 1, 0.0)
        return dump_files.metadata_lines(sample_world.World((item,), (), (), ()), 0, SEED)  # type: ignore[return-value]

    assert words(0) == words(5)


def test_the_photo_shows_the_style(world: sample_world.World, dump: Path) -> None:
    """The nearest mean colour identifies the style of nearly every intact photo."""
    states = dump_files.photo_states(world, 0.03, 6, SEED)
    photos = photos_of(dump)
    shown = [
        (item.style, np.asarray(Image.open(io.BytesIO(photos[f"{item.key}.jpg"])), dtype=float).mean((0, 1)))
        for item, state in zip(world.items, states, strict=True)
        if state == "ok"
    ]
    styles, means = np.array([s for s, _ in shown]), np.stack([m for _, m in shown])
    centres = np.stack([means[styles == style].mean(0) for style in range(NUM_STYLES)])
    nearest = np.linalg.norm(means[:, None] - centres, axis=-1).argmin(1)
    assert np.mean(nearest == styles) > 0.95


def test_photos_are_missing_and_broken_in_the_stated_numbers(world: sample_world.World, dump: Path) -> None:
    photos = photos_of(dump)
    states = dump_files.photo_states(world, 0.03, 6, SEED)
    missing = [item for item, state in zip(world.items, states, strict=True) if state == "missing"]
    assert len(world.items) == len(CATEGORIES) * NUM_STYLES * DEFAULTS.items_per_cell + DEFAULTS.num_rare_items
    assert len(missing) == round(0.03 * len(world.items))
    assert {f"{item.key}.jpg" for item in missing}.isdisjoint(photos)
    assert sum(data == b"" for data in photos.values()) == 2
    assert sum(data.startswith(b"<html>") for data in photos.values()) == 2
    assert {"B0NOSUCHIT.jpg", "B0OLDSTOCK.jpg"} < set(photos)


def test_a_review_names_a_feature_with_an_opinion_of_its_rating() -> None:
    for rating in range(1, 6):
        generator = np.random.default_rng(rating)
        _, text = texts.review(2, 0, 1, rating, generator)
        assert any(word in text for word in texts.OPINIONS[rating])
        assert any(feature in text for feature in texts.FEATURES[2])
        assert 2 <= text.count(".") <= 5


def test_spoiled_photos_are_what_broken_downloads_leave() -> None:
    jpeg = sample_photos.photo(0, 0, 8, 32, np.random.default_rng(0))
    assert jpeg.startswith(b"\xff\xd8")
    assert sample_photos.spoil(jpeg, "truncated") == jpeg[: len(jpeg) // 3]
    assert sample_photos.spoil(jpeg, "empty") == b""
    assert sample_photos.spoil(jpeg, "ok") == jpeg


def test_review_lines_have_the_fields_of_the_2014_format(dump: Path) -> None:
    first = json.loads(gzip.decompress((dump / sample.REVIEWS).read_bytes()).splitlines()[0])
    assert set(first) - {"reviewerName"} == {
        "reviewerID", "asin", "helpful", "reviewText", "overall", "summary", "unixReviewTime", "reviewTime",
    }  # fmt: skip
    assert len(CATEGORIES) == len(texts.FEATURES) == len(texts.PATHS)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"style_fidelity = 1\.5 must lie between 0 and 1"):
        sample.Params(style_fidelity=1.5)
