"""The pages rendered by a browser at phone width: nothing overflows, and every chart has a size."""

import re
from pathlib import Path

from modeling.reporting import html as model_page
from pipelines import data_report
from tests.browser import reported
from tests.pipelines.test_data_report import shop

PHONE = 390
FRAMES = """<!doctype html><body>{frames}<pre id="found"></pre><script>
addEventListener("load", () => {{
  const found = {{}};
  for (const frame of document.querySelectorAll("iframe")) {{
    const page = frame.contentDocument, root = page.documentElement;
    const sizes = [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
    found[frame.id] = [root.scrollWidth, sizes.length, sizes.every(box => box.width > 30 && box.height > 5)];
  }}
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script></body>"""


def laid_out(folder: Path, pages: list[Path]) -> dict[str, tuple[int, int, bool]]:
    """Returns content width, number of charts, and whether all charts have a size, by page."""
    frames = "".join(
        f'<iframe id="{page.stem}" src="{page.as_uri()}" width="{PHONE}" height="800" style="border:0"></iframe>'
        for page in pages
    )
    outer = folder / "frames.html"
    outer.write_text(FRAMES.format(frames=frames), encoding="utf-8")
    return {name: tuple(sizes) for name, sizes in reported(outer, folder).items()}


def a_model_page(path: Path) -> Path:
    """Writes a model page with the longest content that occurs."""
    long_word = "Supercalifragilistic" * 4
    item = model_page.Item(label=f"Stand {long_word} & more", photo=None)
    card = model_page.Card(
        user=f"{long_word} (user 1)", history=[item] * 12, target=item, rank=0,
        top=[(item.label, -3.25, False)] * 10, explanations=[("C-3", long_word, "a word")],
    )  # fmt: skip
    cells = ["VIP5 A-3", *["0.1234 [0.1000, 0.2000]"] * 6]
    parts = [
        model_page.table(["model", *["HR@10"] * 6], [cells], highlight="VIP5"),
        model_page.line_chart("curve", {"a": [(0, 1.0), (1, 2.0)], long_word: [(0, 2.0)]}, x_label="step"),
        model_page.cards([card]),
        model_page.recommendation(
            user=long_word, prompt="A-3: " + "<item_1> " * 40 + long_word, history=[item] * 5, num_shown=2,
            top=[(item, -1.0)] * 10,
        ),
    ]  # fmt: skip
    path.write_text(model_page.page("A page", parts), encoding="utf-8")
    return path


def test_pages_fit_a_phone_and_their_charts_are_drawn(tmp_path: Path) -> None:
    data_report.run(data_report.Params(), shop(tmp_path))
    pages = [
        *((tmp_path / "reports/shop" / name) for name in ("data.html", "photos.html")),
        a_model_page(tmp_path / "model.html"),
    ]
    found = laid_out(tmp_path, pages)
    assert {name: width for name, (width, _, _) in found.items()} == {"data": PHONE, "photos": PHONE, "model": PHONE}
    assert found["model"][1:] == (1, True)
    assert found["photos"][1:] == (1, True)  # the map
    assert found["data"][1] > 20


def test_every_page_forbids_scripts_and_the_network(tmp_path: Path) -> None:
    data_report.run(data_report.Params(), shop(tmp_path))
    reports = tmp_path / "reports/shop"
    for page in (reports / "data.html", reports / "photos.html", a_model_page(tmp_path / "model.html")):
        head = page.read_text(encoding="utf-8").partition("</head>")[0]
        policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', head)
        assert policy, page.name
        assert policy[1] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
