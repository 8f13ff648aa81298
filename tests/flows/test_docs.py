"""The generated pages: complete, true to the code, and their drift is told in one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from features import schema
from features.prompts.language import load_language
from features.prompts.templates import load_templates
from features.runtime.params import load_yaml
from flows import docs
from flows.docgen import data_flow_page, parameters_page
from flows.pipeline.sections import SECTIONS, class_of

ROOT = Path(__file__).parents[2]
GRAPH = {
    "stages": {
        "records": {
            "cmd": "python -m pipelines.records", "desc": "dump to rows",
            "deps": ["data/raw/${dataset}", "features/schema.py"],
            "params": ["dataset", "records"], "outs": ["data/${dataset}/records/reviews"],
        },
        "train": {
            "cmd": "python -m modeling.train", "deps": ["data/${dataset}/records/reviews"],
            "outs": [{"models/${dataset}/train": {"cache": True}}],
        },
    }
}  # fmt: skip


def test_an_example_of_each_prompt_is_filled_in() -> None:
    page = docs.prompts_page(load_templates(), load_language())
    assert page.count("\n### ") == 29 + 31
    assert "Write about the base of Folding Stand .\n-> The base is wide and solid." in page
    assert "### A-9 (held out, evaluated)" in page
    assert (
        "History of user_42 : <item_5> <extra_id_0> <extra_id_0> , <item_17> <extra_id_0> <extra_id_0> . Next item ?"
        "\n-> <item_203>" in page
    )
    assert "\n-> 5 , The base is wide and solid." in page


def test_every_declared_table_and_column_is_on_the_page() -> None:
    page = docs.tables_page()
    names = [table.name for table in docs.declared_tables()]
    assert len(names) == len(set(names))
    assert {"records/reviews", "images/embeddings", "texts", "prompts/<split>/<family>", "predictions"} <= set(names)
    assert "| `embedding` | fixed_size_list[float16, D] | no |" in page
    assert "| `rating` | float32 | no | stars of the review the sentence comes from | stars |" in page
    for column in schema.INTERACTIONS.columns:
        assert f"| `{column.name}` |" in page


def test_edges_follow_outs_and_deps_without_code_files() -> None:
    assert data_flow_page.edges(GRAPH["stages"]) == [("records", "train")]
    page = data_flow_page.data_flow(GRAPH)
    assert "  records --> train\n" in page
    assert (
        "## records\n\nDump to rows.\n\n* reads: `data/raw/${dataset}`\n* writes: `data/${dataset}/records/reviews`\n"
        in page
    )
    assert "* parameters: `records`\n" in page
    assert "features/schema.py" not in page


def test_every_parameter_has_a_meaning() -> None:
    undocumented = set()
    for section in SECTIONS:
        rows = parameters_page.rows(class_of(section))
        undocumented |= {path for path, _, _, text in rows if text == "-"}
    assert undocumented <= {"sasrec.num_blocks", "sasrec.num_heads", "sasrec.learning_rate"}
    page = parameters_page.parameters_page(load_yaml(ROOT / "params.yaml"))
    assert "| `schedule.epochs` | int | 10 | 7 | " in page


def test_check_passes_after_write_and_names_the_first_difference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    assert docs.main(["--root", str(tmp_path), "--check"]) == 3
    assert "no page" in caplog.text
    assert docs.main(["--root", str(tmp_path)]) == 0
    assert docs.main(["--root", str(tmp_path), "--check"]) == 0
    page = tmp_path / "docs" / "reference" / "prompts.md"
    page.write_text(page.read_text(encoding="utf-8").replace("# Prompts", "# Promts"), encoding="utf-8")
    caplog.clear()
    assert docs.main(["--root", str(tmp_path), "--check"]) == 3
    assert "prompts.md with line 3 '# Promts'; expected '# Prompts'" in caplog.text


def test_the_committed_pages_are_those_of_the_code() -> None:
    docs.check(ROOT)


def test_the_generator_loads_neither_prefect_nor_beam() -> None:
    code = "import sys, flows.docs; print(sorted({'prefect', 'apache_beam', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_prose_line_has_over_160_characters(page: Path) -> None:
    in_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code and not line.lstrip().startswith("|"):
            assert len(line) <= 160, f"{page}:{number}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


FIRST_SCREEN = (
    "one command", "```mermaid", "make demo", "VIP5 finds the next item", "of 100 users",
    "](docs/images/recommendations.png)",
    "## Why believe it", "## The tree", "## Your own data", "make run PROFILE=NAME",
)  # fmt: skip


def test_the_first_screen_of_the_readme_holds_all_in_order() -> None:
    screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:60])
    places = [screen.find(part) for part in FIRST_SCREEN]
    assert -1 not in places
    assert places == sorted(places)
    table = screen[screen.index("of 100 users  ") :].partition("\n```")[0].splitlines()
    assert len(table) <= 2 + 8


OLD_WORDS = re.compile(r"\b(riv[a]ls?|the[ ]line|from[ ]nothing|somebody[ ]new|NOT[ ]FAIR)\b", re.IGNORECASE)
WITH_OLD_WORDS = {"CHANGELOG.md", "docs/decisions/0030-rooms.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_old_words_stand_only_in_logs(page: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    if name in WITH_OLD_WORDS or name.startswith(("docs/lab-log/", "docs/reference/")):  # reference: generated
        return
    assert OLD_WORDS.findall(page.read_text(encoding="utf-8")) == []
