"""Everything that the extension says to a person: literals of `tr`, and what its classes and properties are called.

In Blender's Python, `python -m tests.blender_addon.messages` prints what has no translation yet, as JSON for each language.
"""

import ast
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.blender_addon import extension

SOURCE = extension.ROOT / "blender_addon"
NOT_SAID = ("", "MVGamba")
"""What is the same in every language."""


def literals_of_tr() -> dict[str, str]:
    """Literal -> where it is. A call of `tr` with anything else is an error: nobody could translate it."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
                where = f"{path.relative_to(SOURCE)}:{node.lineno}"
                for text in _constants(node.args[0], where):
                    found[text] = where
    return found


def _constants(node: ast.expr, where: str) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from _constants(body, where)
            yield from _constants(other, where)
        case ast.Attribute(attr="sentence" | "button") | ast.Call(func=ast.Attribute(attr="get")):
            return  # rows of a table of the part without bpy, which `said_by_core` has
        case _:
            raise AssertionError(f"{where}: tr() takes a literal")


def said_by_core() -> set[str]:
    """Tables of sentences of the part without bpy."""
    from blender_addon.core.errors import REMEDIES
    from blender_addon.core.jobs import STAGE_LABELS, WORKING

    sentences = {text for remedy in REMEDIES.values() for text in (remedy.sentence, remedy.button)}
    return sentences | set(STAGE_LABELS.values()) | {WORKING}


@dataclass(frozen=True)
class SaidProperty:
    """A property as it was written down; once registered, those of operators and preferences are hard to find."""

    where: str
    kind: str
    """FloatProperty, EnumProperty, ..."""
    identifier: str
    keywords: dict[str, Any]

    @property
    def name(self) -> str:
        return self.keywords.get("name", "")

    @property
    def description(self) -> str:
        return self.keywords.get("description", "")

    @property
    def items(self) -> list[tuple[str, str]]:
        """Names and descriptions of the entries of an enumeration."""
        items = self.keywords.get("items", ())
        return [] if callable(items) else [(item[1], item[2]) for item in items]  # computed ones say tr themselves


def registered_classes() -> list[type]:
    """Everything that the extension registers. Needs it to be enabled."""
    modules = (*extension.module("ui").MODULES, *extension.module("scene").MODULES)
    return [cls for module in modules for cls in getattr(module, "CLASSES", ())]


def properties_of(cls: type) -> list[SaidProperty]:
    """All that a person may see of a class, its bases included."""
    return [
        SaidProperty(cls.__name__, prop.function.__name__, identifier, prop.keywords)
        for base in cls.__mro__
        for identifier, prop in vars(base).get("__annotations__", {}).items()
        if hasattr(prop, "keywords") and "HIDDEN" not in prop.keywords.get("options", ())
    ]


def said_by_classes() -> set[str]:
    """Labels, tooltips and entries of everything that is registered."""
    texts: set[str] = set()
    for cls in registered_classes():
        texts |= {getattr(cls, "bl_label", ""), getattr(cls, "bl_description", "")}
        for prop in properties_of(cls):
            texts |= {prop.name, prop.description, *(text for item in prop.items for text in item)}
    return texts


def messages() -> set[str]:
    """All of them. Needs the extension to be enabled."""
    texts = set(literals_of_tr()) | said_by_core() | said_by_classes()
    return {text for text in texts if text not in NOT_SAID and any(c.isalpha() for c in text)}


def main() -> None:
    extension.use_folder(tempfile.mkdtemp(prefix="mvgamba-messages-"))
    extension.enable()
    catalogs = extension.module("translations")
    said = messages()
    for language in catalogs.LANGUAGES:
        known = json.loads(Path(SOURCE / "translations" / f"{language}.json").read_text(encoding="utf-8"))
        missing, gone = sorted(said - set(known)), sorted(set(known) - said)
        print(json.dumps({"language": language, "missing": missing, "gone": gone}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
