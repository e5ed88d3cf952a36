"""Write the reference pages of the payload types from their declarations.

`python -m tools.reference` writes them; `pages()` is what a test compares with what is there.
"""

import ast
from inspect import cleandoc
from pathlib import Path

import kobs.payloads
import kobs.tracing.log_records
import kobs.tracing.records
from kobs.schema import Field, PayloadType, Schema, registered_types

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference" / "events"
MODULES = (kobs.payloads, kobs.tracing.records, kobs.tracing.log_records)


def pages() -> dict[str, str]:
    """File name to text, for every payload type that kobs declares, and the index."""
    documented = _field_docs()
    homes = [module.__name__ for module in MODULES]
    types = [cls for cls in registered_types().values() if cls.__module__ in homes]
    made = {f"{cls.__kobs_schema__.name}.md": _page(cls, documented[cls.__name__]) for cls in types}
    made["README.md"] = _index(types)
    return made


def _page(cls: type[PayloadType], documented: dict[str, str]) -> str:
    schema = cls.__kobs_schema__
    rows = [_row(field, documented[field.name]) for field in schema.fields]
    return "\n".join(
        [
            f"# {schema.name}",
            "",
            cleandoc(cls.__doc__ or ""),
            "",
            f"- Type id {schema.type_id}, category {schema.category.name}, "
            f"severity {schema.severity.name} unless the event says otherwise.",
            f"- {'Stable: how often' if schema.stable else 'Not stable: how often'} it happens "
            f"{'does not depend' if schema.stable else 'may depend'} on timing.",
            f"- {schema.size} of 128 payload bytes, `struct` format `={schema.format}`.",
            "",
            "| field | type | allowed | unit | default | offset | bytes | meaning |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            *_example(schema),
        ]
    )


def _row(field: Field, meaning: str) -> str:
    default = "required" if field.required else f"`{field.default!r}`"
    if hasattr(field.default, "name"):
        default = f"`{field.default.name}`"
    python = field.kind.python.replace("|", "\\|")
    return (
        f"| `{field.name}` | {python} | {field.kind.allowed} | {field.unit} | {default} "
        f"| {field.offset} | {field.size} | {' '.join(meaning.split())} |"
    )


def _example(schema: Schema) -> list[str]:
    first = schema.fields[0]
    given = [field for field in schema.fields if field.required or field is first]
    arguments = ", ".join(f"{field.name}={_sample(field)}" for field in given)
    return [
        "```python",
        *_imports(schema),
        "",
        "with Collector(size=64) as collector:",
        f"    collector.emit({schema.name}({arguments}))",
        "    (event,) = collector.snapshot()",
        f"    assert {schema.name}.like({first.name}={_sample(first)}).matches(event)",
        "```",
        "",
    ]


def _imports(schema: Schema) -> list[str]:
    names = {"Collector", *(f.kind.python for f in schema.fields if hasattr(f.kind, "members"))}
    home = schema.cls.__module__
    if home == "kobs.payloads":
        return [f"from kobs import {', '.join(sorted({schema.name, *names}))}"]
    return [f"from kobs import {', '.join(sorted(names))}", f"from {home} import {schema.name}"]


def _sample(field: Field) -> str:
    if hasattr(field.kind, "members"):
        first = next(iter(field.kind.members))
        return f"{type(first).__name__}.{first.name}"
    samples = {"int": "3", "float": "12.5", "int | str": '"jobs"', "bool": "True"}
    samples["Mapping[str, object]"] = '{"key": "value"}'
    return samples.get(field.kind.python, f'"{_WORDS.get(field.name, "example")}"')


_WORDS = {
    "name": "read",
    "path": "/tmp/notes.txt",
    "mode": "r",
    "operation": "load",
    "resource": "fd",
    "protocol": "tcp",
    "remote_addr": "127.0.0.1:80",
}


def _index(types: list[type[PayloadType]]) -> str:
    lines = [
        "# Payload types",
        "",
        "Made from the declarations by `make docs`. "
        "Users declare their own in the same way, with `kobs.event_type`.",
        "",
        "| type | category | severity | fields |",
        "|---|---|---|---|",
    ]
    for cls in types:
        schema = cls.__kobs_schema__
        lines.append(
            f"| [{schema.name}]({schema.name}.md) | {schema.category.name} "
            f"| {schema.severity.name} | {', '.join(schema.field_names)} |"
        )
    return "\n".join([*lines, ""])


def _field_docs() -> dict[str, dict[str, str]]:
    """The string below each field of each declaration, by class and field."""
    documented: dict[str, dict[str, str]] = {}
    nodes = [node for m in MODULES for node in ast.parse(Path(str(m.__file__)).read_text()).body]
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = documented[node.name] = {}
        for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                match following:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        fields[statement.target.id] = text
    return documented


def main() -> None:
    """Write every page; remove those of types that are gone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
    print(f"{len(made)} pages in {FOLDER.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
