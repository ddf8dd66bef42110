"""Names from files within a document in markdown: they make no cell, no code that does not end, and no element."""

from __future__ import annotations

from ldmc.runtime.speech import printable


def cell(text: str) -> str:
    """`text` within a table or a sentence."""
    plain: str = printable(text).replace("\n", "\\n").replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("|", "\\|")


def code(text: str) -> str:
    """`text` as code, quotes included."""
    plain = printable(text).replace("\n", "\\n")
    if "`" not in plain:
        return f"`{plain}`"
    fence = "`" * (plain.count("`") + 1)  # longer than any run of them within
    return f"{fence} {plain} {fence}"
