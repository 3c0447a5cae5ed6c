"""The directive ``support-matrix``: tables straight from ``backends_matrix.toml``."""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from xpmeans.capabilities import matrix


class SupportMatrix(SphinxDirective):
    """One table a function."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for name, support in matrix().items():
            full = name if name.startswith("xpmeans.") else f"xpmeans.vq.{name}"
            found.append(table(full, [("Library", "CPU", "GPU"), *support.table()]))
        return found


def table(caption: str, rows: list[tuple[str, ...]]) -> nodes.table:
    """A docutils table whose first row is the head."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in rows[0]), cols=len(rows[0]))
    lines = [
        nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells)) for cells in rows
    ]
    group += nodes.thead("", lines[0])
    group += nodes.tbody("", *lines[1:])
    return nodes.table("", nodes.title(text=caption), group)


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("support-matrix", SupportMatrix)
    return {"parallel_read_safe": True}
