"""Blenders with a window, where none is installed: Debian's own, each in a root folder of its own.

    python tests/window/chroots.py            # builds what is not there yet, in .window or MVGAMBA_WINDOW_ROOT

Needs root, Debian, and the package mirror that this machine is set up with. Blender's own builds are not in any package
registry; Debian's are the same source, with Debian's Python and libraries.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Release:
    """A Blender that a release of Debian holds."""

    version: str
    suite: str
    python: str
    """Debian's, which its Blender runs on."""
    packages: tuple[str, ...] = ()
    """That this Blender needs and does not pull in by itself."""


RELEASES = (
    Release("4.3", "trixie", "3.13"),
    Release("5.2", "sid", "3.14", ("python3-cattr",)),
)
_PACKAGES = (
    "blender",
    "libegl1",
    "libgl1",
    "libgl1-mesa-dri",
    "python3-numpy",
    "python3-requests",
    "python3-zstandard",
)
_HOST_PACKAGES = {"Xvfb": "xvfb", "xdotool": "xdotool", "mmdebstrap": "mmdebstrap", "xclip": "xclip"}
"""By the program that shows whether they are installed."""


class NotHere(Exception):
    """No window can be had on this machine; the message says why."""


def window_root() -> Path:
    """Where the Blenders lie. `make clean` removes the default."""
    return Path(os.environ.get("MVGAMBA_WINDOW_ROOT") or ROOT / ".window").resolve()


def ensure_host_packages() -> None:
    """Install what the tests need beside Blender. Raises: NotHere."""
    if sys.platform != "linux" or "ID=debian" not in _read("/etc/os-release").splitlines():
        raise NotHere(f"the window tests build their Blender from Debian's packages; this is {platform.platform()}")
    if os.geteuid() != 0:
        raise NotHere("only root can build and enter a root folder for Blender; run `make window` as root")
    missing = sorted({package for program, package in _HOST_PACKAGES.items() if shutil.which(program) is None})
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", "-q", *command], capture_output=True, text=True, env=environment)
            if done.returncode:
                raise NotHere(f"apt-get {' '.join(command)} failed: {_complaint(done.stderr)}")


def ensure_blender(release: Release) -> Path:
    """The root folder that holds this Blender, built if it is not there (95 s for two at once). Raises: NotHere."""
    folder = window_root() / release.version
    mark = folder / "etc" / "mvgamba-window.json"
    wanted = {"suite": release.suite, "packages": [*_PACKAGES, *release.packages]}
    if mark.is_file() and json.loads(mark.read_text()) == wanted:
        return folder
    mirror = debian_mirror()
    unfinished = folder.with_name(f"{release.version}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(wanted['packages'])}"]
    command += [f"--aptopt={option}" for option in _apt_options()]
    command += ["--dpkgopt=force-unsafe-io", release.suite, str(unfinished), mirror]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise NotHere(
            f"Blender {release.version} could not be had from Debian {release.suite}: {_complaint(done.stderr)}"
        )
    (unfinished / "etc" / mark.name).write_text(json.dumps(wanted))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return folder


def debian_mirror() -> str:
    """The mirror that apt is set up with here. Raises: NotHere."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL)|$(COMPONENT)|$(REPO_URI)", "Created-By: Packages"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        label, component, uri = line.split("|")
        if (label, component) == ("Debian", "main"):
            return uri
    raise NotHere("apt knows no mirror of Debian's main archive here (run apt-get update)")


def extension_tool(folder: Path) -> Path:
    """Blender's own extension tool in a root folder, which is plain Python."""
    return folder / "usr/share/blender/scripts/addons_core/bl_pkg/cli/blender_ext.py"


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).is_file() else ""


def _apt_options() -> list[str]:
    """How apt reaches its mirror here: proxies, and whether a mirror may be an older snapshot."""
    dump = ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"]
    lines = subprocess.run(dump, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if line.startswith(("Acquire::Check-", "Acquire::http")) and '""' not in line]


def _complaint(text: str) -> str:
    """The first error that apt named, else the last thing that was said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return next((line for line in lines if line.startswith("E:")), lines[-1])


def main() -> None:
    try:
        ensure_host_packages()
        with ThreadPoolExecutor(len(RELEASES)) as pool:
            for release, folder in zip(RELEASES, pool.map(ensure_blender, RELEASES), strict=True):
                print(f"Blender {release.version} is in {folder}")
    except NotHere as reason:
        sys.exit(f"Skipped: {reason}.")


if __name__ == "__main__":
    main()
