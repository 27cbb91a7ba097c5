"""What the tests of the backend's panel have in common; their fixtures are in conftest.py."""

import bpy

from tests.blender_addon import extension
from tests.blender_addon.test_register import LayoutRecorder

CHANGED = (
    "backend_mode",
    "start_mode",
    "backend_path",
    "backend_arguments",
    "port",
    "data_folder",
    "idle_minutes",
    "log_level",
)
CHANGED += ("remote_address", "remote_tls", "remote_ca_file", "remote_token", "remote_hosts")
CHANGED += ("setup_folder", "setup_package", "setup_wheels", "setup_python")
"""Preferences that these tests change."""


def own():
    # Looked up anew each time: a reference does not outlive that the extension is disabled.
    return bpy.context.preferences.addons[extension.MODULE].preferences


def wait(addon, condition, *, timeout=30.0):
    return addon.jobs.wait_until(addon.session().pump, condition, timeout=timeout)


def end_of(addon, row):
    assert wait(addon, lambda: not row.is_active), row.text
    return row


def drawn(draw, *arguments):
    calls: list = []
    draw(LayoutRecorder(calls), *arguments)
    return calls


def texts(calls):
    return [options.get("text", "") for name, _, options in calls if name in ("label", "progress")]


def operators(calls):
    return [arguments[0] for name, arguments, _ in calls if name == "operator"]
