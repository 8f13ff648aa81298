"""The analyst: reads the verdict, opens the pages at a desk and on a phone, runs the ready queries of `examples/`."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.browser import reported
from tests.journeys.person import Person

WIDTHS = {"desk": 1280, "phone": 390}
FRAMES = """<!doctype html><body>{frames}<pre id="found"></pre><script>
addEventListener("load", () => {{
  const found = {{}};
  for (const frame of document.querySelectorAll("iframe")) {{
    const page = frame.contentDocument, list = page.querySelector("ul.verdict");
    const lines = [...page.querySelectorAll("ul.verdict li")];
    const shown = line => getComputedStyle(line).borderLeftColor;
    const table = page.querySelector("table");
    found[frame.id] = {{
      width: page.documentElement.scrollWidth, height: page.documentElement.scrollHeight,
      charts: [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().width),
      verdict: lines.map(line => line.textContent), states: lines.map(line => line.className),
      colours: lines.map(shown), badge: page.querySelector(".flag")?.className,
      first: list && table ? list.getBoundingClientRect().top < table.getBoundingClientRect().top : null,
    }};
  }}
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script></body>"""


def opened(folder: Path, pages: list[Path]) -> dict[str, dict[str, object]]:
    """What a browser shows of each page at each width, by "model desk", "model phone", ..."""
    frames = "".join(
        f'<iframe id="{page.stem} {name}" src="{page.as_uri()}" width="{width}" height="900" style="border:0"></iframe>'
        for page in pages
        for name, width in WIDTHS.items()
    )
    outer = folder / "frames.html"
    outer.write_text(FRAMES.format(frames=frames), encoding="utf-8")
    found: dict[str, dict[str, object]] = reported(outer, folder, "--window-size=1400,1000")
    return found


def test_terminal_page_and_summary_file_show_the_same_verdict(
    after_demo: Callable[[], Person], demo_text: tuple[Path, str], tmp_path: Path
) -> None:
    person = after_demo()
    said = person.types(".venv/bin/python -m modeling.summary", within=20)
    assert said.seconds < 5
    metrics = person.folder / "metrics/sample"
    small, whole = (json.loads((metrics / name).read_text()) for name in ("summary.json", "evaluate.json"))
    verdict = small["verdict"]
    assert verdict == whole["verdict"]
    assert next(iter(small)) == "verdict"
    assert len(small) == 11
    listed = demo_text[1].splitlines()
    start = listed.index(verdict[0])
    assert listed[start : start + len(verdict)] == verdict  # at the end of `make demo`
    assert [line for line in said.lines if line in verdict] == verdict
    rule = next(number for number, line in enumerate(said.lines) if line.startswith("---"))
    rows = said.lines[rule + 1 : next(n for n, line in enumerate(said.lines) if line.startswith("("))]
    assert 3 <= len(rows) <= 8
    assert f"of {whole['num_candidates']['direct']} candidates" in said.lines[rule - 1]
    assert whole["num_candidates"]["direct"] == 31
    assert not re.search(r"HR@|NDCG|100 candidates", said.text)

    reports = person.folder / "reports/sample"
    found = opened(tmp_path, [reports / f"{name}.html" for name in ("model", "data", "photos")])
    for name, shown in found.items():
        assert shown["width"] == WIDTHS[name.split()[1]], name
        assert all(width > 30 for width in shown["charts"]), name  # type: ignore[attr-defined]
    for name in ("model desk", "model phone"):
        shown = found[name]
        assert shown["verdict"] == verdict
        assert shown["first"]
        states = set(shown["states"])  # type: ignore[call-overload]
        worst = next(state for state in ("bad", "weak", "good") if state in states)
        assert shown["badge"] == f"flag {worst}"
        assert len(set(shown["colours"])) == len(states)  # type: ignore[call-overload]  # each state has its colour


def test_the_ready_queries_answer_as_pasted(after_demo: Callable[[], Person]) -> None:
    person = after_demo()
    assert "helpful_votes" in person.types(".venv/bin/python examples/run_sql.py examples/columns.sql").text
    assert "B0" in person.types(".venv/bin/python examples/run_sql.py examples/best_sold.sql").text
    assert "20" in person.types(".venv/bin/python examples/run_sql.py examples/ratings_by_year.sql").text
    assert "test" in person.types(".venv/bin/python examples/run_sql.py examples/history_of_one_user.sql").text
    assert "not_parsable" in person.types(".venv/bin/python examples/run_sql.py examples/reject_reasons.sql").text
    assert "looks_like" in person.types(".venv/bin/python examples/run_sql.py examples/nearest_by_photo.sql").text
    assert "A-3" in person.types(".venv/bin/python examples/run_sql.py examples/recommended_too_often.sql").text
    assert "median_days" in person.types(".venv/bin/python examples/polars_time_between_purchases.py").text
    assert "A-3" in person.types(".venv/bin/python examples/polars_prompts_of_one_family.py").text
    assert "all" in person.types(".venv/bin/python examples/pandas_hit_rate_by_history_length.py").text
    assert "complaint" in person.types(".venv/bin/python examples/pandas_praised_features.py").text
    assert person.types(".venv/bin/python examples/datasets_training_examples.py").lines
    assert person.types(".venv/bin/python examples/datasets_nearest_titles.py").lines


def test_help_says_what_is_typed_and_lists_the_seeds(after_demo: Callable[[], Person]) -> None:
    person = after_demo()
    text = person.types(".venv/bin/python -m modeling.evaluate --help", within=10).text
    assert text.startswith("usage: python -m modeling.evaluate ")
    assert "--seeds N" in text
    said = person.types(".venv/bin/python -m pipelines.records --help", within=10)
    assert said.text.startswith("usage: python -m pipelines.records ")
    none = person.types(".venv/bin/python -m modeling.evaluate --seeds 0", ends=2, within=10)
    assert "--seeds must be at least 1" in none.lines[-1]
