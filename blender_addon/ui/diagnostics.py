"""Copy Diagnostics: what a bug report needs, on the clipboard."""

import base64
import importlib.resources
import os
import tomllib
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ..core import diagnostics
from ..core.backend import log_tail
from ..core.i18n import tr
from ..core.jobs import JobRow
from ..core.remote import TOKEN_VARIABLE
from ..scene.backend import log_path, own_preferences
from ..scene.classes import register_classes, unregister_classes
from ..scene.folders import ROOT_PACKAGE
from ..scene.session import session
from .backend import current_status
from .preferences import backend_status

_WORDS = frozenset({"prompt", "negative_prompt", "vary_prompt"})
_SECRET = frozenset({"remote_token"})
MAX_PICTURES = 8


class MVGAMBA_OT_copy_diagnostics(bpy.types.Operator):
    bl_idname = "mvgamba.copy_diagnostics"
    bl_label = "Copy Diagnostics"
    bl_description = "Put versions, settings and the end of the logs on the clipboard"
    bl_options = {"INTERNAL"}

    request_id: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    with_prompts: BoolProperty(
        name="Include Prompts",
        description="Also copy prompts and names of jobs, which tell what you made",
        options={"SKIP_SAVE"},
    )
    with_pictures: BoolProperty(
        name="Include Pictures", description="Also copy the small pictures that jobs have shown", options={"SKIP_SAVE"}
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=360)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.label(text=tr("Versions, settings and the end of the logs are copied"))
        self.layout.prop(self, "with_prompts")
        self.layout.prop(self, "with_pictures")

    def execute(self, context: bpy.types.Context) -> set[str]:
        text = collect(context, with_prompts=self.with_prompts, with_pictures=self.with_pictures)
        context.window_manager.clipboard = text
        self.report({"INFO"}, tr("Diagnostics are on the clipboard"))
        return {"FINISHED"}


def collect(context: bpy.types.Context, *, with_prompts: bool = False, with_pictures: bool = False) -> str:
    """JSON; prompts, names of jobs and pictures only when asked for, tokens never."""
    own, setup = own_preferences(context), session().setup
    skipped = frozenset() if with_prompts else _WORDS
    facts: dict[str, Any] = {
        "blender": {
            "version": bpy.app.version_string,
            "online_access": bpy.app.online_access,
            "background": bpy.app.background,
        },
        "extension": _extension_version(),
        "backend": {
            **diagnostics.backend_facts(current_status(context)),
            "command": backend_status(),
            "pid": session().backend_pid,
        },
        "setup": {"phase": setup.progress.state.phase, "message": setup.progress.state.message},
        "settings": _values(context.scene.mvgamba, skipped),
        "preferences": _values(own, _SECRET) if own is not None else {},
        "jobs": [_job_facts(row, with_prompts=with_prompts) for row in session().board.rows],
    }
    if setup.machine is not None:
        facts["machine"] = setup.machine.lines
    if with_pictures:
        facts["pictures"] = _pictures(session().board.rows)
    logs = {"backend": log_tail(log_path())}
    if setup.folder is not None:
        logs["setup"] = log_tail(setup.log_path)
    secrets = [os.environ.get(TOKEN_VARIABLE, ""), own.remote_token if own is not None else ""]
    return diagnostics.report(facts, logs=logs, home=Path.home(), secrets=secrets)


def _job_facts(row: JobRow, *, with_prompts: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": row.request.kind,
        "state": row.state.value,
        "stage": row.stage,
        "reason": row.reason,
        "message": row.message,
        "seconds": {stage: round(seconds, 2) for stage, seconds in row.stage_seconds.items()},
        "options": vars(row.request.options),
    }
    if with_prompts:
        facts |= {"label": row.request.label, "notes": row.log_lines, "source": str(row.request.source or "")}
    return facts


def _pictures(rows: list[JobRow]) -> list[dict[str, str]]:
    """The latest small pictures, as they may stand in a web page."""
    shown = [picture for row in rows for picture in row.previews.values()][:MAX_PICTURES]
    return [{"type": p.media_type, "base64": base64.b64encode(p.data).decode("ascii")} for p in shown]


def _values(group: Any, skipped: frozenset[str]) -> dict[str, Any]:
    """Numbers, choices and texts of a group of properties; no data of the file."""
    found = {}
    for prop in group.bl_rna.properties:
        name = prop.identifier
        if prop.type in ("BOOLEAN", "INT", "FLOAT", "ENUM", "STRING") and name not in skipped | _BUILT_IN:
            value = getattr(group, name)
            found[name] = list(value) if getattr(prop, "is_array", False) else value
    return found


_BUILT_IN = frozenset({"bl_idname", "name", "rna_type"})


def _extension_version() -> str:
    """As its manifest says; empty when it was enabled from a source tree."""
    try:
        text = (importlib.resources.files(ROOT_PACKAGE) / "blender_manifest.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["version"])
    except (OSError, KeyError, ValueError):
        return ""


CLASSES = (MVGAMBA_OT_copy_diagnostics,)


def register() -> None:
    register_classes(CLASSES)


def unregister() -> None:
    unregister_classes(CLASSES)
