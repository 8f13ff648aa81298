"""No module imports itself through others: every import counts, late ones and those for types only too."""

import re
from pathlib import Path

import grimp
import pytest

from flows.pipeline import stage_graph

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*stage_graph.PACKAGES, exclude_type_checking_imports=False, cache_dir=None)


def test_no_module_imports_itself_through_others(imports: grimp.ImportGraph) -> None:
    circles = [
        (module, other)
        for module in sorted(imports.modules)
        for other in sorted(imports.find_modules_directly_imported_by(module))
        if imports.chain_exists(importer=other, imported=module)
    ]
    assert circles == []


@pytest.mark.parametrize("package", stage_graph.PACKAGES)
def test_the_top_of_a_package_holds_its_stages_and_commands(package: str) -> None:
    light = {"__init__", "schema", "errors"}  # what a table means, and the tree of errors
    modules = [path for path in (ROOT / package).glob("*.py") if path.stem not in light]
    assert [path.name for path in modules if 'if __name__ == "__main__":' not in path.read_text("utf-8")] == []


@pytest.mark.parametrize("package", stage_graph.PACKAGES)
def test_every_room_is_on_the_map_of_its_package(package: str) -> None:
    rooms = sorted(path.parent.name for path in (ROOT / package).glob("*/__init__.py"))
    text = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^(\w+)  +(.+)$", text, re.MULTILINE))
    assert sorted(lines) == rooms
    assert [line for line in lines.values() if len(line.split()) > 10] == []
