"""Build the extension: download the wheels, write them into the manifest, let Blender's own tool make and check the zips.

    python blender_addon/build_addon.py --out dist

Needs a package index and any environment with bpy in it (its tool is plain Python; no window is opened).
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
WHEELS = ("grpcio==1.85.1", "protobuf==7.36.2", "typing_extensions==4.16.0")
PYTHONS = ("3.11", "3.13")
"""Of Blender 4.2 to 5.0, and of 5.1 on."""
PLATFORMS = {
    "linux-x64": ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_universal2", "macosx_11_0_arm64", "macosx_10_9_universal2"),
}
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "build_addon.py", "docs", "wheels", ".*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SOURCE.parent / "dist", help="folder for the zips")
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="only these (default: all)")
    parser.add_argument("--wheels", type=Path, help="folder with wheels that are already there; nothing is downloaded")
    parser.add_argument("--python", action="append", help=f"only wheels for these (default: {' and '.join(PYTHONS)})")
    arguments = parser.parse_args()
    for path in build(
        arguments.out,
        platforms=arguments.platform or list(PLATFORMS),
        wheels=arguments.wheels,
        pythons=arguments.python or PYTHONS,
    ):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    print(f"{write_index(arguments.out)}  the repository that Blender installs and updates from")


def build(
    out: Path,
    *,
    platforms: list[str],
    wheels: Path | None = None,
    pythons: Sequence[str] = PYTHONS,
    tool: Path | None = None,
) -> list[Path]:
    """One zip for each platform in `out`, each accepted by Blender's validator.

    Args:
        wheels: Folder with wheels that are already there; nothing is downloaded.
        pythons: Versions to download wheels for. Debian's Blender 5.2 runs on 3.14, which Blender's own builds do not.
        tool: Blender's extension tool; None takes it from the installed bpy.
    """
    tool = tool or blender_tool()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mvgamba-addon-") as folder:
        stage = Path(folder) / "mvgamba"
        shutil.copytree(SOURCE, stage, ignore=NOT_SHIPPED)
        names = collect_wheels(stage / "wheels", platforms=platforms, given=wheels, pythons=pythons)
        write_manifest(stage / "blender_manifest.toml", platforms=platforms, wheels=names)
        made = Path(folder) / "zips"
        made.mkdir()
        run(tool, "build", "--source-dir", str(stage), "--output-dir", str(made), "--split-platforms")
        results = []
        for path in sorted(made.glob("*.zip")):
            run(tool, "validate", str(path))
            results.append(Path(shutil.copy(path, out / path.name)))
    return results


def write_index(folder: Path) -> Path:
    """`index.json` (and a page for people) over the zips in `folder`, which makes it a repository that Blender installs and updates from.

    The addresses in it are relative: any web server, or a shared folder, may hand it out.
    """
    run(blender_tool(), "server-generate", "--repo-dir", str(folder), "--html")
    return folder / "index.json"


def collect_wheels(
    folder: Path, *, platforms: list[str], given: Path | None, pythons: Sequence[str] = PYTHONS
) -> list[str]:
    """Names of the wheels for `platforms`, now in `folder`."""
    folder.mkdir(parents=True)
    if given is not None:
        for path in given.glob("*.whl"):
            shutil.copy(path, folder)
    else:
        for platform in platforms:
            for python in pythons:
                download(folder, PLATFORMS[platform], python)
    return sorted(path.name for path in folder.glob("*.whl"))


def download(folder: Path, tags: tuple[str, ...], python: str) -> None:
    """The wheels for one platform and Python, as the index has them: Blender's rules want them unmodified."""
    options = [option for tag in tags for option in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "--python-version", python]
    subprocess.run([*command, *options, *WHEELS], check=True)


def write_manifest(path: Path, *, platforms: list[str], wheels: list[str]) -> None:
    """Fill in what the repository leaves open."""
    text = path.read_text(encoding="utf-8")
    listed = "".join(f'  "./wheels/{name}",\n' for name in wheels)
    text, wheels_found = re.subn(r"^wheels = \[\]$", f"wheels = [\n{listed}]", text, flags=re.MULTILINE)
    quoted = ", ".join(f'"{platform}"' for platform in platforms)
    text, platforms_found = re.subn(r"^platforms = \[.*\]$", f"platforms = [{quoted}]", text, flags=re.MULTILINE)
    assert wheels_found == platforms_found == 1, "the manifest has lost its lines for wheels and platforms"
    path.write_text(text, encoding="utf-8")


def blender_tool() -> Path:
    """Blender's own extension tool, from the installed bpy."""
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        sys.exit("bpy is not installed in this environment; its extension tool builds the zip")
    found = sorted(Path(spec.origin).parent.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    if not found:
        sys.exit(f"no extension tool in {Path(spec.origin).parent}")
    return found[-1]


def run(tool: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, str(tool), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments[0]} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
