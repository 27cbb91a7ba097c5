"""Which backend the preferences ask for, and whether Blender lets us reach it."""

import shlex
import sys
from pathlib import Path
from typing import Any

import bpy

from ..core.backend import BackendCommand, find_backend
from ..core.errors import AddonError
from ..core.i18n import tr
from ..core.remote import RemoteBackend, is_loopback, parse_address, remote_backend
from ..core.weights import VARIABLE, WeightsProgram, find_program
from .folders import ROOT_PACKAGE, user_folder

DEFAULT_IDLE_MINUTES = 5
"""What the service does by itself."""


def own_preferences(context: bpy.types.Context) -> Any | None:
    """Ours, or None when the extension was registered by hand."""
    addon = context.preferences.addons.get(ROOT_PACKAGE)
    return None if addon is None else addon.preferences


def backend_command(context: bpy.types.Context) -> BackendCommand | RemoteBackend:
    """What the preferences say, ready for a job.

    Raises:
        AddonError: BACKEND_NOT_INSTALLED; of a remote one also REMOTE_NOT_ALLOWED and as `remote_command`.
    """
    own = own_preferences(context)
    if own is None or own.backend_mode == "LOCAL":
        return local_command(context)
    remote = remote_command(context)
    if not remote.is_loopback and remote.host not in allowed_hosts(context):
        text = tr("{host}; prompts, pictures and captures would be sent there").format(host=remote.host)
        raise AddonError("REMOTE_NOT_ALLOWED", text)
    return remote


def local_command(context: bpy.types.Context) -> BackendCommand:
    """How the backend of this machine is started. Raises: AddonError, BACKEND_NOT_INSTALLED, BACKEND_START_FAILED."""
    own = own_preferences(context)
    configured = bpy.path.abspath(own.backend_path) if own is not None and own.backend_path else ""
    command = find_backend(configured)
    if command is None:
        raise AddonError("BACKEND_NOT_INSTALLED", configured)
    if own is None:
        return BackendCommand(command, user_folder("backend"), log_path())
    try:
        arguments = shlex.split(own.backend_arguments, posix=sys.platform != "win32")
    except ValueError as error:
        text = tr("the extra arguments of the preferences cannot be read: {why}").format(why=error)
        raise AddonError("BACKEND_START_FAILED", text) from error
    if own.idle_minutes != DEFAULT_IDLE_MINUTES:
        arguments = ["--idle-exit", str(60 * own.idle_minutes), *arguments]
    if own.log_level == "DEBUG":
        arguments = ["--verbose", *arguments]
    weights = weights_folder(context)
    environment = {VARIABLE: str(weights)} if weights is not None else None
    return BackendCommand(command, data_folder(context), log_path(), tuple(arguments), environment, own.port)


def weights_folder(context: bpy.types.Context) -> Path | None:
    """Where the local backend keeps weights that do not come with it, as the preferences say; None for its usual place."""
    own = own_preferences(context)
    return Path(bpy.path.abspath(own.weights_folder)) if own is not None and own.weights_folder else None


def weights_program(context: bpy.types.Context) -> WeightsProgram:
    """What lists and fetches weights for the local backend. Looks at the disk.

    Raises:
        AddonError: BACKEND_NOT_INSTALLED, BACKEND_START_FAILED, VERSION_MISMATCH.
    """
    return find_program(local_command(context).command, weights_folder(context))


def remote_command(context: bpy.types.Context) -> RemoteBackend:
    """The remote backend of the preferences, as far as it may be asked anything.

    Raises:
        AddonError: ADDRESS_INVALID, ONLINE_ACCESS_OFF, TLS_ERROR, UNAUTHENTICATED.
    """
    own = own_preferences(context)
    assert own is not None
    host, _ = parse_address(own.remote_address)
    if not is_loopback(host):
        check_online_access()
    return remote_backend(
        own.remote_address,
        token=own.remote_token,
        has_tls=own.remote_tls,
        ca_file=bpy.path.abspath(own.remote_ca_file) if own.remote_ca_file else "",
    )


def check_online_access() -> None:
    """Raises: AddonError, ONLINE_ACCESS_OFF, with where it is switched."""
    if bpy.app.online_access:
        return
    if bpy.app.online_access_override:
        raise AddonError("ONLINE_ACCESS_OFF", tr("Blender was started with --offline-mode"))
    raise AddonError("ONLINE_ACCESS_OFF", tr("see Preferences > System > Network > Allow Online Access"))


def allowed_hosts(context: bpy.types.Context) -> list[str]:
    """Machines to which a person has agreed to send things."""
    own = own_preferences(context)
    return own.remote_hosts.split() if own is not None else []


def allow_host(context: bpy.types.Context, host: str) -> None:
    """Remember that a person agrees."""
    own = own_preferences(context)
    if own is not None and host not in allowed_hosts(context):
        own.remote_hosts = "\n".join([*allowed_hosts(context), host])


def data_folder(context: bpy.types.Context) -> Path:
    """Where the local backend keeps jobs and results."""
    own = own_preferences(context)
    if own is not None and own.data_folder:
        return Path(bpy.path.abspath(own.data_folder))
    return user_folder("backend")


def setup_folder(context: bpy.types.Context) -> Path:
    """Where Set Up installs, as the preferences say."""
    own = own_preferences(context)
    chosen = bpy.path.abspath(own.setup_folder) if own is not None and own.setup_folder else ""
    return Path(chosen) if chosen else Path.home() / "mvgamba"


def log_path() -> Path:
    """What the local backend writes to its standard error."""
    return user_folder("logs") / "backend.log"
