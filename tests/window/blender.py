"""Runs a scenario in a Blender with a window, and brings back what it saw."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from blender_addon.build_addon import WHEELS, build, collect_wheels
from tests.window.chroots import RELEASES, Release, ensure_blender, extension_tool, window_root
from tests.window.display import SIZE, Display
from tests.window.outside import BACKEND, Outside

INSIDE = Path(__file__).resolve().parent / "inside"
_HARMLESS = ("ALSA", "AL lib", "EGL_BAD_MATCH")


@dataclass(frozen=True)
class Outcome:
    """What came of one scenario."""

    report: dict[str, Any]
    """What the scenario noted; empty when it did not come to its end."""
    problem: str
    """Why it did not, with the end of the log; empty when all went well."""
    errors: tuple[str, ...]
    """Lines of Blender's log that tell of an error in Python."""
    folder: Path
    """Screenshots, blender.log and backend.log."""


@cache
def extension_zip() -> Path:
    """The extension as an artist gets it, with the wheels of Debian's two Pythons. Wheels are kept for the next time."""
    pythons = [release.python for release in RELEASES]
    folder = _made(window_root() / "extension")
    # A folder for each set, so that new versions are downloaded and not mixed with old ones.
    wheels = folder / "-".join(["wheels", *(name.replace("==", "_") for name in WHEELS), *pythons])
    if not wheels.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            collect_wheels(Path(scratch) / "wheels", platforms=["linux-x64"], given=None, pythons=pythons)
            (Path(scratch) / "wheels").rename(wheels)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        tool = extension_tool(ensure_blender(RELEASES[-1]))
        (path,) = build(Path(scratch), platforms=["linux-x64"], wheels=wheels, tool=tool)
        kept = path.replace(folder / f"{os.getpid()}-{path.name}")
    atexit.register(kept.unlink, missing_ok=True)
    return kept


@cache
def user_folder(release: Release) -> Path:
    """A home folder in the root folder of this Blender, with the extension installed by Blender's command line."""
    root = ensure_blender(release)
    home = Path(tempfile.mkdtemp(prefix="mvgamba-home-", dir=root / "tmp"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    shutil.copy(extension_zip(), home / "mvgamba.zip")
    inner = "/" + str(home.relative_to(root))
    command = ["-b", "--command", "extension", "install-file", "-r", "user_default", "--enable", f"{inner}/mvgamba.zip"]
    done = subprocess.run([*_blender(root, inner), *command], capture_output=True, text=True, timeout=120)
    if done.returncode or "Error" in done.stderr:
        raise RuntimeError(f"Blender {release.version} did not install the extension:\n{done.stdout}{done.stderr}")
    return home


def run_scenario(
    release: Release,
    scenario: str,
    out: Path,
    *,
    limit: float,
    options: dict[str, Any] | None = None,
    pipeline: str = "fake",
    backend: tuple[str, ...] = BACKEND,
    size: tuple[int, int] = SIZE,
    install: bool = True,
) -> Outcome:
    """Start Blender with a fresh copy of the user folder, let `inside/<scenario>.py` act in it, and end it.

    Args:
        out: For screenshots, blender.log and backend.log.
        options: For the scenario.
        limit: Seconds after which it is ended by force.
        pipeline: Of the backend: fake or real.
        size: Of the screen: width and height, in pixels.
        install: Whether the extension is installed already; else the scenario does it from `window.zip_path`.
    """
    root = ensure_blender(release)
    out = _made(out)
    home = Path(tempfile.mkdtemp(prefix="mvgamba-run-", dir=root / "tmp"))
    inner = "/" + str(home.relative_to(root))
    try:
        if install:
            shutil.copytree(user_folder(release), home, dirs_exist_ok=True, symlinks=True)
        else:
            shutil.copy(extension_zip(), home / "mvgamba.zip")
        shutil.copytree(INSIDE, home / "inside", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(INSIDE.parents[1] / "blender_addon" / "soak.py", home / "inside")
        for name, program in {"mvgamba-backend": "bridge.py", "mvgamba": "bridge.py", "xclip": "xclip.py"}.items():
            Path(shutil.copy(INSIDE.parent / program, _made(home / "bin") / name)).chmod(0o755)
        with Display(size) as display, Outside(display, root, out, backend=backend) as outside:
            setting = {
                "scenario": scenario,
                "port": outside.port,
                "key": outside.key,
                "report": f"{inner}/report.json",
                "pipeline": pipeline,
                "options": options or {},
                "installed": install,
                "zip": f"{inner}/mvgamba.zip",
            }
            (home / "setting.json").write_text(json.dumps(setting))
            command = [*_blender(root, inner, DISPLAY=display.name), "--gpu-backend", "opengl"]
            command += ["-noaudio", "--window-geometry", "0", "0", str(size[0]), str(size[1])]
            command += ["--python", f"{inner}/inside/harness.py"]
            began = time.time()
            with (out / "blender.log").open("w") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            outside.blender_pid = process.pid
            try:
                process.wait(limit)
                problem = "" if process.returncode == 0 else f"Blender ended with status {process.returncode}"
            except subprocess.TimeoutExpired:
                display.screenshot().save(out / "stuck.png")
                problem = f"not done after {limit:.0f} s (stuck.png)"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        text = (out / "blender.log").read_text(errors="replace")
        path = home / "report.json"
        report = json.loads(path.read_text()) if path.is_file() else {}
        for crash in home.rglob("*.crash.txt"):
            shutil.copy(crash, out)
            text += crash.read_text(errors="replace")
        if "first_step" in report:
            report["start_seconds"] = round(report.pop("first_step") - began, 1)
        report["whole_seconds"] = round(time.time() - began, 1)
        problem = report.pop("error", "") or problem or ("" if path.is_file() else "it left no report")
        if problem:
            problem = f"{scenario} in Blender {release.version}: {problem}\n" + "\n".join(text.splitlines()[-30:])
        return Outcome(report, problem, _python_errors(text), out)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _blender(root: Path, home: str, **environment: str) -> list[str]:
    """The command that enters the root folder and starts Blender there, with none of our variables but these."""
    values = {
        "HOME": home,
        "TMPDIR": home,
        "PATH": f"{home}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "MESA_SHADER_CACHE_DIR": "/var/cache/mvgamba-mesa",  # else each run compiles all shaders anew
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    return ["chroot", str(root), "env", "-i", *(f"{name}={value}" for name, value in values.items()), "blender"]


def _python_errors(text: str) -> tuple[str, ...]:
    lines = text.splitlines()
    return tuple(
        "\n".join(lines[at : at + 12])
        for at, line in enumerate(lines)
        if ("Traceback" in line or "Error:" in line.split("|")[-1][:12]) and not any(word in line for word in _HARMLESS)
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
