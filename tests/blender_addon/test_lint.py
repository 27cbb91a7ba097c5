"""Blender's own customs, proved over everything that the extension registers."""

import ast
import re

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension, messages  # noqa: E402

pytestmark = pytest.mark.blender

KINDS = {
    "Operator": "OT",
    "Panel": "PT",
    "Menu": "MT",
    "UIList": "UL",
    "PropertyGroup": "PG",
    "AddonPreferences": "AP",
    "FileHandler": "FH",
}
SMALL_WORDS = frozenset(
    ["a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"]
)
LENGTHS = re.compile(r"\b(size|distance|radius|length)\b", re.IGNORECASE)
ANGLES = re.compile(r"\b(angle|elevation|azimuth|rotation|turn by)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def classes(addon):
    return messages.registered_classes()


def kind_of(cls):
    return next(kind for kind in KINDS if issubclass(cls, getattr(bpy.types, kind)))


def test_names_follow_blenders_pattern(classes):
    wrong = []
    for cls in classes:
        kind = kind_of(cls)
        if not re.fullmatch(rf"MVGAMBA_{KINDS[kind]}_[a-z0-9_]+", cls.__name__):
            wrong.append(cls.__name__)
        expected = cls.__name__ if kind != "Operator" else f"mvgamba.{cls.__name__.partition('_OT_')[2]}"
        if kind in ("Operator", "Panel", "Menu", "FileHandler") and getattr(cls, "bl_idname", "") != expected:
            wrong.append(f"{cls.__name__}.bl_idname")
    assert not wrong


def test_labels_are_in_title_case(classes):
    def is_title(text):
        words = re.sub(r"[^\w\s'-]", " ", text).split()
        return all(not word[0].islower() or (k and word in SMALL_WORDS) for k, word in enumerate(words))

    labels = [(cls, cls.bl_label) for cls in classes if kind_of(cls) in ("Operator", "Panel", "Menu", "FileHandler")]
    labels += [(prop, prop.name) for cls in classes for prop in messages.properties_of(cls)]
    assert [(who, text) for who, text in labels if not text or text.endswith(".") or not is_title(text)] == []


def test_tooltips_say_more_than_the_label_and_have_no_final_period(classes):
    wrong = []
    for cls in classes:
        if kind_of(cls) == "Operator" and not cls.bl_description:
            wrong.append(f"{cls.bl_idname} has none")
        texts = [(cls.__name__, cls.bl_label, cls.bl_description)] if kind_of(cls) == "Operator" else []
        texts += [(f"{cls.__name__}.{p.identifier}", p.name, p.description) for p in messages.properties_of(cls)]
        for prop in messages.properties_of(cls):
            texts += [(f"{cls.__name__}.{prop.identifier}", "", description) for _, description in prop.items]
        wrong += [
            f"{where}: {text!r}" for where, label, text in texts if not text or text == label or text.endswith(".")
        ]
        wrong += [f"{where}: {text!r}" for where, _, text in texts if text and text[0].islower()]
    assert not wrong


def test_lengths_and_angles_have_units(classes):
    wrong = []
    for cls in classes:
        for prop in messages.properties_of(cls):
            said = {prop.keywords.get("subtype"), prop.keywords.get("unit")}
            if prop.kind != "FloatProperty":
                continue
            if ANGLES.search(prop.name) and not said & {"ANGLE", "ROTATION"}:
                wrong.append(f"{cls.__name__}.{prop.identifier} is an angle")
            elif LENGTHS.search(prop.name) and not said & {"DISTANCE", "LENGTH"}:
                wrong.append(f"{cls.__name__}.{prop.identifier} is a length")
    assert not wrong


def test_a_grey_button_always_says_why():
    """Each `poll` of an operator that may be false sets a message, itself or through a function that it calls."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (messages.SOURCE / "ui").glob("*.py")}
    setting = {
        function.name
        for tree in trees.values()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and "poll_message_set" in ast.unparse(function)
    }
    wrong = []
    for path, tree in trees.items():
        for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and "_OT_" in node.name):
            for poll in (node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "poll"):
                text = ast.unparse(poll)
                if "poll_message_set" not in text and not any(f"{name}(" in text for name in setting - {"poll"}):
                    wrong.append(f"{path.name}: {cls.name}")
    assert not wrong


def test_every_timer_survives_that_another_file_is_loaded():
    """One that a load drops makes Blender 4.5 hang when it ends."""
    calls = [
        ast.unparse(node)
        for path in messages.SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "bpy.app.timers.register"
    ]
    assert calls and [call for call in calls if "persistent=True" not in call] == []


def test_what_changes_the_scene_can_be_undone(classes):
    operators = [cls for cls in classes if kind_of(cls) == "Operator"]
    assert all(cls.bl_options <= {"REGISTER", "UNDO", "INTERNAL", "BLOCKING"} for cls in operators)
    undoable = {cls.bl_idname for cls in operators if "UNDO" in cls.bl_options}
    assert {"mvgamba.place_result", "mvgamba.place_on_surface", "mvgamba.step_variant", "mvgamba.turn"} <= undoable


def test_the_state_of_jobs_is_never_saved():
    names = {prop.identifier for prop in bpy.types.Scene.bl_rna.properties["mvgamba"].fixed_type.properties}
    assert not [name for name in names if "job" in name or "progress" in name or "state" in name]
    assert bpy.types.WindowManager.bl_rna.properties["mvgamba"].is_skip_save


@pytest.mark.parametrize("language", ["de", "ja", "zh"])
def test_everything_that_is_said_is_translated(addon, language):
    catalog = extension.module("translations").read_catalog(language)
    said = messages.messages()
    assert sorted(said - set(catalog)) == [], "python -m tests.blender_addon.messages lists what is missing"
    assert sorted(set(catalog) - said) == [], "nobody says this any more"


@pytest.mark.parametrize("language", ["de", "ja", "zh"])
def test_translations_keep_what_is_filled_in_and_have_no_final_period(addon, language):
    def fields(text):
        return sorted(re.findall(r"\{[^}]*\}", text))

    catalog = extension.module("translations").read_catalog(language)
    assert [key for key, text in catalog.items() if fields(key) != fields(text)] == []
    assert [
        key for key, text in catalog.items() if not text.strip() or text.endswith((".", "。")) != key.endswith(".")
    ] == []
