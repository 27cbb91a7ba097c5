"""The extension's manual (the part "Use" of its README) names what the panels show, nothing else, and shows pictures that exist.

Read from the source, so no Blender is needed. What is named stands in *italics*, in **bold** or in the first column of a table.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "blender_addon"
MANUAL = (SOURCE / "README.md").read_text(encoding="utf-8").partition("\n## Design\n")[0]
PANELS = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((SOURCE / "ui").glob("*.py"))}
DATA = [*PANELS.values(), ast.parse((SOURCE / "scene" / "result.py").read_text(encoding="utf-8"))]
TABLES = ("Setting", "Button", "Preference", "Sign in the header")
"""First column of the tables that are read the other way round, too."""


def calls_of(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield node


def literals(node: ast.AST | None) -> set[str]:
    """Strings that an expression may be."""
    found = ast.walk(node) if node is not None else ()
    return {part.value for part in found if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def override(call: ast.Call) -> set[str]:
    """What a button or a property is called where it is drawn, if not by its own name."""
    return literals(next((word.value for word in call.keywords if word.arg == "text"), None)) - {""}


def label_of_properties() -> dict[str, set[str]]:
    """Identifier -> names, of all properties of the panels, the preferences, the dialogs and the results."""
    labels: dict[str, set[str]] = {}
    for tree in DATA:
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Call):
                name = {
                    value for word in node.annotation.keywords if word.arg == "name" for value in literals(word.value)
                }
                labels.setdefault(ast.unparse(node.target), set()).update(name)
    return labels


def label_of_operators() -> dict[str, str]:
    """Identifier -> label."""
    labels = {}
    for tree in PANELS.values():
        for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            values = {
                ast.unparse(item.targets[0]): item.value.value
                for item in cls.body
                if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)
            }
            if str(values.get("bl_idname", "")).startswith("mvgamba."):
                labels[values["bl_idname"]] = values["bl_label"]
    return labels


def shown_properties() -> dict[str, set[str]]:
    """Identifier -> names under which panels show it."""
    labels, shown = label_of_properties(), {}
    for tree in PANELS.values():
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.For) and any(calls_of(node, "prop"))]
        named = [(name, set()) for loop in loops for name in literals(loop.iter)]
        named += [(name, override(call)) for call in calls_of(tree, "prop") for name in literals(_last(call.args[1]))]
        for name, also in named:
            shown.setdefault(name, set(labels.get(name, ()))).update(also)
    return shown


def _last(node: ast.expr) -> ast.AST | None:
    """The expression itself, without what a choice is made by; None for a variable (of a loop)."""
    match node:
        case ast.IfExp(body=body, orelse=other):
            return ast.Tuple([body, other], ast.Load())
        case ast.Constant():
            return node
    return None


def buttons() -> dict[str, set[str]]:
    """Identifier -> labels, of all operators that a panel, a menu or a failed job offers."""
    labels, offered = label_of_operators(), {}
    for tree in PANELS.values():
        for call in calls_of(tree, "operator"):
            for name in literals(call.args[0]) & set(labels):
                offered.setdefault(name, {labels[name]}).update(override(call))
    for name in literals(ast.parse((SOURCE / "core" / "errors.py").read_text(encoding="utf-8"))) & set(labels):
        offered.setdefault(name, {labels[name]})
    return offered


def parts(text: str) -> set[str]:
    """The names in a piece of text: `Capture > Image Size, Margin` has four."""
    text = " ".join(text.split())
    return {part.strip(" *.:").casefold() for part in [*re.split(r"[,>]|\band\b", text), text]} - {""}


def first_columns(*, headers: tuple[str, ...] | None = None) -> Iterator[str]:
    """First cells of the rows of tables: of all, or of those whose first column is called so."""
    header, before = "", ""
    for line in MANUAL.splitlines():
        if not line.startswith("|"):
            header = ""
        elif set(line) <= set("|- :"):
            header = before
        elif header and (headers is None or header in headers):
            yield line.strip("| ").split("|")[0].strip()
        before = line.strip("| ").split("|")[0].strip()


def named() -> set[str]:
    spans = [match[1] for match in re.finditer(r"(?<![\w*])\*{1,2}([^*]{1,80}?)\*{1,2}(?![\w*])", MANUAL)]
    return {name for text in [*spans, *first_columns()] for name in parts(text)}


def said() -> set[str]:
    """Every word of the user interface: labels, entries of enumerations, sentences and what is drawn."""
    trees = [*DATA, *(ast.parse(path.read_text(encoding="utf-8")) for path in (SOURCE / "core").glob("*.py"))]
    return {text.strip(" .").casefold() for tree in trees for text in literals(tree)}


def test_every_property_that_a_panel_shows_is_in_the_manual():
    shown = shown_properties()
    assert {"target_faces", "placement", "capture_placement", "remote_ca_file", "vary_prompt", "side"} <= set(shown)
    assert all(shown.values()), [name for name, labels in shown.items() if not labels]
    missing = {name: labels for name, labels in shown.items() if not {text.casefold() for text in labels} & named()}
    assert not missing


def test_every_button_is_in_the_manual():
    offered = buttons()
    assert {"mvgamba.generate", "mvgamba.retry_low_memory", "mvgamba.regenerate", "mvgamba.replace_view"} <= set(
        offered
    )
    missing = {name: labels for name, labels in offered.items() if not {text.casefold() for text in labels} & named()}
    assert not missing


def test_the_tables_of_the_manual_name_nothing_that_is_gone():
    rows = list(first_columns(headers=TABLES))
    assert len(rows) > 40
    words = said()
    names = {(row, name) for row in rows for name in re.split(r"[,>]", row)}
    assert not sorted((row, name) for row, name in names if name.strip(" *").casefold() not in words)


@pytest.mark.parametrize("page", ["README.md", "docs/FEATURES.md"])
def test_what_a_page_links_to_is_there(page):
    path = SOURCE / page
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (path.parent / link).exists()]


def test_every_picture_is_shown_under_what_it_shows():
    shown = re.findall(r"!\[([^\]]*)\]\(docs/([\w.]+)\)", MANUAL)
    assert {name for _, name in shown} == {path.name for path in (SOURCE / "docs").glob("*.png")}
    assert all(text.strip() for text, _ in shown)
