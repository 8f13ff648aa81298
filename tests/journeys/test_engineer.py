"""The engineer: runs, compares and applies experiments with DVC, while a profile of another dataset stays as it is."""

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import show
from tests.journeys.conftest import commit, git
from tests.journeys.person import Person

ENTRY = """\
  mini:
    format: amazon2014
    reviews:
    - reviews_Sample_5.json.gz
    metadata:
    - meta_Sample.json.gz
    photos:
"""
PROFILE = """\
dataset: mini
num_visual_tokens: 1
retrain: {recommend: false, gate: {may_lose_to: [popularity, item_knn, title_bm25]}}
pretrain: {schedule: {max_steps: 2}}
train: {schedule: {max_steps: 2}}
evaluate: {prompts: [A-3, 'B-5:history'], ablation_prompts: [A-3], sasrec: null, ridge: null, bootstrap_resamples: 20}
"""
CURVES = {
    "loss": ("backbone (pretrain), training", "VIP5 (train), validation"),
    "validation": ("VIP5 (train)",),  # a backbone that is trained on language rows alone has none
    "next_item": ("VIP5", "VIP5 without photos", "random"),
    "candidates": ("VIP5", "VIP5 without photos", "random"),
}
STAGE_RAN = re.compile(r"Running stage|is cached - skipping run")


def files_of(person: Person, name: str) -> dict[str, str]:
    """SHA-256 of every file of a dataset and of its profile, by path."""
    places = ("data", "data/raw", "models", "metrics", "plots", "reports", "work/profiles")
    paths = [path for place in places for path in (person.folder / place / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(person.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def status(person: Person) -> str:
    return git(person.folder, "status", "--porcelain").decode()


@pytest.fixture(scope="module")
def engineer(demo_text: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory, home: Path) -> Person:
    """A person after `make demo`, in whose clone the profile `mini` has run; dvc.lock is committed."""
    folder = tmp_path_factory.mktemp("engineer") / "clone"
    shutil.copytree(demo_text[0], folder, symlinks=True)
    person = Person(folder, home)
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(params.replace("  toys:\n", ENTRY + "  toys:\n", 1), encoding="utf-8")
    (folder / "profiles/mini.yaml").write_text(PROFILE, encoding="utf-8")
    git(folder, "add", "--all")
    commit(folder, "a dataset of our own")
    person.types(".venv/bin/python -m flows.ingest NAME --from FOLDER", NAME="mini", FOLDER="data/raw/sample")
    assert "Running stage" in person.types("make run PROFILE=NAME", NAME="mini", within=300).text
    again = person.types(".venv/bin/dvc repro", within=120)
    assert "Stage 'train' is cached - skipping run" in again.text
    person.types("git add dvc.lock")
    person.types('git commit --message "a first run"')
    return person


def test_after_the_demo_git_is_clean_and_nothing_is_lost(after_demo: Callable[[], Person]) -> None:
    person = after_demo()
    assert status(person) == ""
    before = files_of(person, "sample")
    refused = person.types(".venv/bin/dvc checkout", ends=None)
    assert "Can't remove the following unsaved files" in refused.text
    assert files_of(person, "sample") == before
    again = person.types("make demo", within=120)
    assert re.findall(r"Running stage '(\w+)'", again.text) == ["model_report"]
    assert files_of(person, "sample") == before
    assert status(person) == ""


def test_a_custom_dataset_needs_no_code_and_no_tracked_change(engineer: Person) -> None:
    for page in ("model", "data", "photos"):
        assert (engineer.folder / f"reports/mini/{page}.html").is_file()
    assert (engineer.folder / "metrics/mini/evaluate.json").is_file()
    assert git(engineer.folder, "diff", "--name-only", "HEAD~1") == b"dvc.lock\n"


def test_profile_and_retrain_reuse_each_others_run(engineer: Person) -> None:
    retrained = engineer.types(".venv/bin/python -m flows.retrain NAME --plain", NAME="mini")
    assert "retrain: mini: promoted" in retrained.text
    assert not STAGE_RAN.search(retrained.text)
    assert not STAGE_RAN.search(engineer.types("make run PROFILE=NAME", NAME="mini").text)
    again = engineer.types(".venv/bin/python -m flows.retrain NAME --plain", NAME="mini")
    assert not STAGE_RAN.search(again.text)


def test_an_experiment_changes_one_line_and_can_be_applied(engineer: Person) -> None:
    profile = files_of(engineer, "mini")
    assert "up to date" in engineer.types(".venv/bin/dvc status").text
    engineer.types(
        ".venv/bin/dvc exp run --name NAME -S PARAMETER=VALUE", NAME="fewer", PARAMETER="evaluate.max_users", VALUE="90"
    )
    changed = git(engineer.folder, "diff", "--unified=0", "params.yaml").decode().splitlines()
    assert [line.split("#")[0].strip() for line in changed[5:]] == ["-  max_users:", "+  max_users: 90"]

    shown = engineer.types(".venv/bin/dvc metrics show")
    assert len(shown.lines) == 2
    assert max(map(len, shown.lines)) <= 260
    assert "next_item_hr10" in shown.lines[0]
    differences = engineer.types(".venv/bin/dvc metrics diff")
    assert 2 <= len(differences.lines) <= 11
    table = engineer.types(".venv/bin/dvc exp show --only-changed --drop '.*/|.*_(baseline|no_photos|held_out)_'")
    assert max(map(len, table.lines)) <= 160
    assert all(word in table.text for word in ("fewer", "evaluate.max_users", "next_item_hr10"))

    engineer.types("git checkout params.yaml dvc.lock")
    engineer.types(".venv/bin/dvc checkout")
    assert status(engineer) == ""
    engineer.types(".venv/bin/dvc exp apply NAME", NAME="fewer")
    assert "max_users: 90" in (engineer.folder / "params.yaml").read_text(encoding="utf-8")
    assert files_of(engineer, "mini") == profile
    engineer.types("git checkout params.yaml dvc.lock")
    engineer.types(".venv/bin/dvc checkout")


def test_experiments_remote_and_gc_leave_the_profile_alone(engineer: Person, tmp_path: Path) -> None:
    profile = files_of(engineer, "mini")
    engineer.types(
        ".venv/bin/dvc exp run --queue --name NAME -S PARAMETER=VALUE",
        NAME="queued", PARAMETER="++model_report.num_users", VALUE="3",
    )  # fmt: skip
    engineer.types(".venv/bin/dvc queue start")
    deadline = time.monotonic() + 180
    while "Success" not in (said := engineer.types(".venv/bin/dvc queue status").text):
        assert time.monotonic() < deadline, said
        assert "Failed" not in said
        time.sleep(1)
    assert "model_report" in engineer.types(".venv/bin/dvc queue logs NAME", NAME="queued").text
    engineer.types(".venv/bin/python -m flows.remote FOLDER", FOLDER=str(tmp_path / "store"))
    engineer.types(".venv/bin/dvc push")
    engineer.types(".venv/bin/dvc gc --workspace --force")
    engineer.types(".venv/bin/dvc pull")
    assert files_of(engineer, "mini") == profile
    assert not STAGE_RAN.search(engineer.types("make run PROFILE=NAME", NAME="mini").text)

    other = Person(tmp_path / "other", engineer.home)
    git(tmp_path, "clone", "--quiet", str(engineer.folder), str(other.folder))
    (other.folder / ".venv").symlink_to((engineer.folder / ".venv").resolve())
    other.types(".venv/bin/python -m flows.remote FOLDER", FOLDER=str(tmp_path / "store"))
    other.types(".venv/bin/dvc pull")
    assert "Data and pipelines are up to date" in other.types(".venv/bin/dvc repro").text
    assert status(other) == ""


def test_the_page_of_plots_names_its_curves_and_needs_no_network(engineer: Person, tmp_path: Path) -> None:
    for line, revisions in (
        (engineer.types(".venv/bin/dvc plots show"), 1),
        (engineer.types(".venv/bin/dvc plots diff HEAD~1 HEAD"), 1),
    ):
        assert "index.html" in line.text
        page = (engineer.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
        pictures = re.findall(r'<img src="(static/\S+\.svg)">', page)
        assert len(pictures) == len(CURVES) * revisions
        assert "http" not in page
        for picture in pictures:
            text = (engineer.folder / "dvc_plots" / picture).read_text(encoding="utf-8")
            names = [name.rpartition(" (")[0] for name in re.findall(r'<text x="94"[^>]*>([^<]+)</text>', text)]
            wanted = CURVES[picture.rpartition("_sample_")[2].removesuffix(".svg")]
            assert set(wanted) <= set(names)
            assert len(names) == text.count("<polyline") <= 5
    colours = drawn(engineer.folder / "dvc_plots/index.html", tmp_path)
    assert {(27, 108, 168), (200, 85, 61), (58, 125, 68)} <= colours  # the first three curves


def drawn(page: Path, folder: Path) -> set[tuple[int, ...]]:
    """The colours that a browser without network shows of a page."""
    picture = folder / "page.png"
    show(
        page, folder, "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=800,2400", f"--screenshot={picture}"
    )  # fmt: skip
    with Image.open(picture) as image:
        found = image.convert("RGB").getcolors(maxcolors=1 << 24) or []
    return {colour for _, colour in found if isinstance(colour, tuple)}
