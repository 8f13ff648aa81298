import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from features.errors import InputError, ParamsError
from features.runtime import profiles
from flows import ingest
from flows.download import dump_files, tar_shards

PARAMS: dict[str, Any] = {
    "datasets": {
        "toys": {"format": "p5", "reviews": ["sequential_data.txt", "datamaps.json"], "metadata": ["items.jsonl.gz"]},
        "shirts": {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": [], "photos": "photos"},
    },
    "tokenizers": {"t5_tokenizer": ["tokenizer.json", "spiece.model"]},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with the files of `shirts`: reviews and three loose photos."""
    folder = tmp_path / "downloads"
    (folder / "photos").mkdir(parents=True)
    (folder / "r.json.gz").write_bytes(b"reviews")
    for key in ("B03", "B01", "B02"):
        (folder / "photos" / f"{key}.jpg").write_bytes(f"photo {key}".encode())
    return folder


def bring(name: str, source: Path, root: Path) -> list[str]:
    """What the flow does, without Prefect."""
    transfers = dump_files.plan(name, source, PARAMS, root)
    arrivals = [dump_files.fetch(transfer, name, root) for transfer in transfers]
    for transfer, arrival in zip(transfers, arrivals, strict=True):
        dump_files.verify(transfer, arrival)
    return dump_files.publish(name, arrivals, root)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_manifest_lists_names_bytes_and_sha256(source: Path, tmp_path: Path) -> None:
    assert bring("shirts", source, tmp_path) == ["photos/photos-00000.tar", "r.json.gz"]
    manifest = json.loads((tmp_path / "data/raw/shirts/manifest.json").read_text())
    assert [entry["name"] for entry in manifest] == ["photos/photos-00000.tar", "r.json.gz"]
    assert manifest[1] == {
        "name": "r.json.gz",
        "bytes": 7,
        "sha256": "5464105120381493fb3350e3554d1897ba619abe196feed632a60ebc969f734c",
    }


def test_manifest_names_no_place_of_this_machine(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    assert str(tmp_path) not in (tmp_path / "data/raw/shirts/manifest.json").read_text()


def test_only_the_finished_dump_is_left(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    assert sorted(tree(tmp_path / "data/raw")) == [
        "shirts/manifest.json",
        "shirts/photos/photos-00000.tar",
        "shirts/r.json.gz",
    ]


def test_npy_features_are_copied_and_an_empty_folder_is_named(source: Path, tmp_path: Path) -> None:
    params = {**PARAMS, "datasets": {"shirts": {**PARAMS["datasets"]["shirts"], "photos": None, "vectors": "vectors"}}}
    with pytest.raises(InputError, match=r"no \.npy file in .*vectors: null"):
        dump_files.plan("shirts", source, params, tmp_path)
    (source / "vectors").mkdir()
    (source / "vectors" / "B1.npy").write_bytes(b"numbers")
    assert [transfer.name for transfer in dump_files.plan("shirts", source, params, tmp_path)] == [
        "r.json.gz",
        "vectors/B1.npy",
    ]


def test_loose_photos_are_packed_in_the_order_of_their_keys(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    with tarfile.open(tmp_path / "data/raw/shirts/photos/photos-00000.tar") as archive:
        members = archive.getmembers()
        photo = archive.extractfile("B02.jpg")
        assert photo is not None
        assert photo.read() == b"photo B02"
    assert [(member.name, member.mtime, member.uid, member.uname) for member in members] == [
        ("B01.jpg", 0, 0, ""),
        ("B02.jpg", 0, 0, ""),
        ("B03.jpg", 0, 0, ""),
    ]


def test_shards_hold_a_thousand_photos(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_files, "PHOTOS_PER_SHARD", 2)
    transfers = dump_files.plan("shirts", source, PARAMS)
    assert tar_shards.PHOTOS_PER_SHARD == 1000
    assert {transfer.name: [path.stem for path in transfer.sources] for transfer in transfers if transfer.packed} == {
        "photos/photos-00000.tar": ["B01", "B02"],
        "photos/photos-00001.tar": ["B03"],
    }


def test_same_photos_give_the_same_shard_in_any_folder(source: Path, tmp_path: Path) -> None:
    other = source.rename(tmp_path / "elsewhere")
    for path in other.rglob("*.jpg"):
        os.utime(path, (0, 0))
        path.chmod(0o600)
    one, again = io.BytesIO(), io.BytesIO()
    tar_shards.write_shard([other / "photos/B01.jpg"], one)
    (other / "photos/B01.jpg").chmod(0o644)
    tar_shards.write_shard([other / "photos/B01.jpg"], again)
    assert one.getvalue() == again.getvalue()


def test_a_second_run_changes_nothing(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert bring("shirts", source, tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*") if path.is_file()} == before


def test_only_what_changed_is_replaced(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    (source / "r.json.gz").write_bytes(b"Reviews")
    assert bring("shirts", source, tmp_path) == ["r.json.gz"]
    assert (tmp_path / "data/raw/shirts/r.json.gz").read_bytes() == b"Reviews"


def test_a_shard_that_is_no_longer_needed_goes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(dump_files, "PHOTOS_PER_SHARD", 2)
    bring("shirts", source, tmp_path)
    (source / "photos/B03.jpg").unlink()
    assert bring("shirts", source, tmp_path) == ["photos/photos-00001.tar"]
    assert sorted(tree(tmp_path / "data/raw/shirts/photos")) == ["photos-00000.tar"]


def test_archives_of_photos_are_copied_as_they_are(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    archive = tmp_path / "data/raw/shirts/photos/photos-00000.tar"
    for path in (source / "photos").iterdir():
        path.unlink()
    (source / "photos/mine.tar").write_bytes(archive.read_bytes())
    assert [transfer.name for transfer in dump_files.plan("shirts", source, PARAMS)] == ["photos/mine.tar", "r.json.gz"]


def test_an_archive_beside_the_files_stands_for_the_folder(source: Path) -> None:
    for path in (source / "photos").iterdir():
        path.unlink()
    (source / "photos").rmdir()
    (source / "photos.tar").write_bytes(b"tar")
    assert [transfer.name for transfer in dump_files.plan("shirts", source, PARAMS)] == [
        "photos/photos.tar",
        "r.json.gz",
    ]


def test_a_tokenizer_comes_the_same_way(tmp_path: Path) -> None:
    source = tmp_path / "t5"
    source.mkdir()
    for name in ("tokenizer.json", "spiece.model", "README.md"):
        (source / name).write_text(name)
    assert bring("t5_tokenizer", source, tmp_path) == ["spiece.model", "tokenizer.json"]


def test_a_failed_copy_leaves_the_old_dump_as_it_was(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    before = tree(tmp_path / "data/raw/shirts")
    (source / "r.json.gz").write_bytes(b"newer reviews")
    transfers = dump_files.plan("shirts", source, PARAMS, tmp_path)
    dump_files.fetch(transfers[1], "shirts", tmp_path)  # and the process dies here
    assert tree(tmp_path / "data/raw/shirts") == before
    assert bring("shirts", source, tmp_path) == ["r.json.gz"]
    assert not dump_files.staging_folder("shirts", tmp_path).exists()


def test_a_file_that_changes_while_it_is_copied_is_noticed(source: Path, tmp_path: Path) -> None:
    transfer = dump_files.plan("shirts", source, PARAMS, tmp_path)[1]
    arrival = dump_files.fetch(transfer, "shirts", tmp_path)
    (source / "r.json.gz").write_bytes(b"growing")
    with pytest.raises(InputError, match=r"r\.json\.gz that changed while it was copied"):
        dump_files.verify(transfer, arrival)


def test_a_photo_that_changes_while_packed_is_detected(source: Path, tmp_path: Path) -> None:
    transfer = dump_files.plan("shirts", source, PARAMS, tmp_path)[0]
    arrival = dump_files.fetch(transfer, "shirts", tmp_path)
    dump_files.verify(transfer, arrival)
    (source / "photos/B02.jpg").write_bytes(b"another")
    with pytest.raises(InputError, match=r"photos-00000\.tar that changed"):
        dump_files.verify(transfer, arrival)


def test_unknown_dump_is_answered_with_the_nearest(source: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        dump_files.plan("shirt", source, PARAMS)
    assert str(caught.value) == (
        "found dump 'shirt'; expected shirts (the nearest known); "
        "do: add it to `datasets` or `tokenizers` of params.yaml"
    )


def test_missing_folder_file_and_photos_are_named(source: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*gone"):
        dump_files.plan("shirts", source / "gone", PARAMS)
    with pytest.raises(InputError, match=r"no file sequential_data\.txt in .* \(it holds photos, r\.json\.gz\)"):
        dump_files.plan("toys", source, PARAMS)
    for path in (source / "photos").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no photos in"):
        dump_files.plan("shirts", source, PARAMS)
    (source / "photos").rmdir()
    with pytest.raises(InputError, match=r"no photo folder .* \(nor photos\.tar\)"):
        dump_files.plan("shirts", source, PARAMS)


def test_two_photos_of_one_item_are_refused(source: Path) -> None:
    (source / "photos/B01.png").write_bytes(b"again")
    with pytest.raises(InputError, match="two photos of item B01"):
        dump_files.plan("shirts", source, PARAMS)


def test_the_dumps_own_place_is_no_source(source: Path, tmp_path: Path) -> None:
    bring("shirts", source, tmp_path)
    with pytest.raises(InputError, match="the dump's own folder"):
        dump_files.plan("shirts", tmp_path / "data/raw/shirts", PARAMS, tmp_path)


def test_check_arrived_says_what_to_type(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        dump_files.check_arrived("shirts", ["r.json.gz"], tmp_path)
    assert str(caught.value).endswith("expected r.json.gz; do: .venv/bin/python -m flows.ingest shirts --from FOLDER")
    bring("shirts", source, tmp_path)
    dump_files.check_arrived("shirts", ["r.json.gz"], tmp_path)
    (tmp_path / "data/raw/shirts/r.json.gz").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"r\.json\.gz of 3 bytes; expected 7 bytes"):
        dump_files.check_arrived("shirts", ["r.json.gz"], tmp_path)


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (["shirt", "--from", "x"], 2, "ingest: found dump 'shirt'; expected shirts (the nearest known); do: "),
        (["shirts", "--from", "x"], 3, "ingest: found no folder x; expected the folder that holds the files of shirts"),
        (
            ["shirts"],
            3,
            "ingest: found no URL for r.json.gz of shirts, and no --from; expected one for every file; ",
        ),
    ],
)
def test_wrong_input_is_one_line_before_any_server_starts(
    workspace: Path, caplog: pytest.LogCaptureFixture, argv: list[str], code: int, line: str
) -> None:
    (workspace / "params.yaml").write_text(json.dumps(PARAMS))
    assert ingest.main(argv) == code
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(line)
    assert [path.name for path in workspace.iterdir()] == ["params.yaml"]


def test_a_profile_of_the_same_name_is_laid_over(workspace: Path) -> None:
    (workspace / "params.yaml").write_text(json.dumps(PARAMS))
    (workspace / "profiles").mkdir()
    (workspace / "profiles/shirts.yaml").write_text("datasets: {shirts: {photos: null}}")
    assert profiles.dump_params("shirts")["datasets"]["shirts"]["photos"] is None
    assert profiles.dump_params("toys")["datasets"]["shirts"]["photos"] == "photos"


@pytest.mark.real
def test_real_dumps_are_found_under_their_configured_names(root: Path, real_data: Path) -> None:
    from features.runtime.params import load_yaml

    params = load_yaml(root / "params.yaml")
    places = {
        "musical_instruments": "amazon2014/musical_instruments",
        "toys": "p5/toys",
        "beauty": "p5/beauty",
        "t5_tokenizer": "t5_tokenizer",
    }
    counts = {name: len(dump_files.plan(name, real_data / place, params)) for name, place in places.items()}
    assert counts == {"musical_instruments": 2, "toys": 3, "beauty": 3, "t5_tokenizer": 2}
