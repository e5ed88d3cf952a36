"""A page as one file: markup, style, scripts and data, safe whatever text is shown.

Text reaches a page by `text` (in markup) or in `data` (JSON for the scripts) and by no other way.
A content security policy names the page's own style and scripts by their digests: nothing else
runs, and nothing is fetched.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from kobs.export.jsonl import dumps

_PLAIN = re.compile(r"[\w .:/\[\]()=-]*", re.ASCII)
"""Text that is the same in HTML: most of it."""
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_CONTROL |= {127: 0x2421}
_CONTROL |= dict.fromkeys(
    (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD
)
"""Control characters get their pictures; C1 controls and those that turn the direction of text
would hide or reorder what follows."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any text as HTML: escaped, without terminal colours, control characters made visible."""
    if isinstance(value, Markup):
        return value
    plain = str(value)
    if _PLAIN.fullmatch(plain):
        return Markup(plain)
    plain = _ANSI.sub("", plain).replace("\r\n", "\n").translate(_CONTROL)
    return Markup(html.escape(plain, quote=True))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """An element. Attributes that are None are left out; `class_` is `class`, `data_x` is
    `data-x`."""
    made = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{made}>{''.join(map(text, content))}</{name}>")


def section(identifier: str, title: str, *content: object, note: str = "") -> Markup:
    """A section of a page, with its heading."""
    small = element("small", note) if note else ""
    heading = element("h2", title, " " if note else "", small, id=f"{identifier}-title")
    return element(
        "section", heading, *content, id=identifier, aria_labelledby=f"{identifier}-title"
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    caption: str = "",
    sortable: bool = False,
) -> Markup:
    """A table that scrolls sideways where it is too wide; `numbers`: columns of numbers. A cell
    may be a pair: what is shown, and the number that it is sorted by."""  # fmt: skip

    starts = ['<td class="n"' if index in numbers else "<td" for index in range(len(columns))]

    def cell(index: int, value: object) -> str:
        if isinstance(value, tuple):
            return f'{starts[index]} data-sort="{text(value[1])}">{text(value[0])}</td>'
        return f"{starts[index]}>{text(value)}</td>"

    head = [
        element("th", name, scope="col", class_="n" if index in numbers else None)
        for index, name in enumerate(columns)
    ]
    body = [
        Markup(f"<tr>{''.join(cell(index, value) for index, value in enumerate(row))}</tr>")
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else "",
            element("thead", element("tr", *head)),
            element("tbody", *body),
            class_="sortable" if sortable else None,
        ),
        class_="scroll", tabindex="0", role="region", aria_label=caption or "table",
    )  # fmt: skip


def document(
    title: str,
    *content: object,
    styles: Sequence[str],
    scripts: Sequence[str] = (),
    data: object = None,
) -> bytes:
    """The page. `styles` and `scripts` are names of files beside this module; the scripts find
    `data` as the global constant `DATA`."""
    style = "".join(map(_resource, ("page.css", *styles)))
    script = ""
    if scripts:
        parts = [f"const DATA = {script_json(data)};\n"] if data is not None else []
        script = '"use strict";\n' + "".join([*parts, *map(_resource, scripts)])
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; "
        f"script-src {_digest(script) if script else chr(39) + 'none' + chr(39)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = "".join(
        (
            "<!DOCTYPE html>\n",
            '<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n",
            *map(text, content),
            f"\n<script>{script}</script>" if script else "",
            "\n</body>\n</html>\n",
        )
    )
    return page.encode("utf-8", "backslashreplace")  # a lone surrogate is no text


def fragment(name: str) -> Markup:
    """Markup that lies beside this module."""
    return Markup(_resource(name))


def script_json(value: Any) -> str:
    """`value` as a JavaScript expression that cannot end the script around it."""
    made = dumps(value)  # ASCII: U+2028 and lone surrogates are \u escapes already
    return made.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _resource(name: str) -> str:
    return files("kobs._pages").joinpath(name).read_text("utf-8")


def _digest(source: str) -> str:
    made = hashlib.sha256(source.encode("utf-8", "backslashreplace")).digest()
    return f"'sha256-{base64.b64encode(made).decode()}'"
