"""Opens a folder of Jinja templates with the settings that every page shares."""

from pathlib import Path

import jinja2


def templates(folder: Path) -> jinja2.Environment:
    """The templates in `folder`: every value is escaped, and a value that is missing is an error.

    The filter `count` writes a number with thousands separators.

    Example:
        >>> templates(Path(".")).from_string("{{ name }}: {{ 1234 | count }}").render(name="<b>")
        '&lt;b&gt;: 1,234'
    """
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["count"] = lambda number: f"{number:,}"
    return pages
