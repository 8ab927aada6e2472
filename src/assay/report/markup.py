"""Small functions that make HTML. Whatever is not `Html` already is escaped, so a page cannot forget to.

>>> tag("td", "<b>", class_="n")
'<td class="n">&lt;b&gt;</td>'
"""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"br", "meta", "hr"})


class Html(str):
    """Text that is already HTML and may enter the page as it stands."""

    __slots__ = ()


def escape(text: object) -> Html:
    """HTML of a piece of plain text; `Html` passes untouched."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Concatenate pieces, escaping those that are plain text."""
    return Html(between.join(escape(part) for part in parts))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """One element. `class_` writes class, `data_x` writes data-x; attributes that are None or False are left out."""
    written: list[str] = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{html.escape(str(value), quote=True)}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening if name in VOID else f"{opening}{join(children)}</{name}>")


def paragraph(*children: object, **attributes: object) -> Html:
    return tag("p", *children, **attributes)


def listing(items: Iterable[object], **attributes: object) -> Html:
    return tag("ul", *(tag("li", item) for item in items), **attributes)


def table(
    head: Iterable[object], rows: Iterable[Iterable[object]], caption: object | None = None, class_: str | None = None
) -> Html:
    """A table in a box that scrolls sideways on a narrow screen. Cells that are `<td>` or `<th>` stay as they are."""
    top = tag("thead", tag("tr", *(_cell(cell, "th", scope="col") for cell in head)))
    body = tag("tbody", *(row if isinstance(row, Html) else tag("tr", *map(_cell, row)) for row in rows))
    inner = tag("table", tag("caption", caption) if caption is not None else Html(""), top, body)
    return tag("div", inner, class_=f"scroll {class_ or ''}".strip(), tabindex="0", role="region")


def _cell(content: object, name: str = "td", **attributes: object) -> Html:
    if isinstance(content, Html) and content.startswith(("<td", "<th")):
        return content
    return tag(name, content, **attributes)


class Notes:
    """Footnotes of one table: the same reason gets the same letter; `mark` in the cell, `listed` below the table."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._letters: dict[str, str] = {}

    def mark(self, reason: str) -> Html:
        letter = self._letters.setdefault(reason, _letter(len(self._letters)))
        link = tag("a", letter, href=f"#{self._prefix}-{letter}")
        return tag("sup", link, class_="mark", title=reason)

    def listed(self) -> Html:
        items = [
            tag("p", tag("sup", letter), " ", reason, id=f"{self._prefix}-{letter}")
            for reason, letter in self._letters.items()
        ]
        return tag("div", *items, class_="notes") if items else Html("")


def _letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("a") + rest) + name
    return name
