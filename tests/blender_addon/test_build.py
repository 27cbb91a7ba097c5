"""The zip: its manifest, and whether Blender accepts and runs it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_build():
    spec = importlib.util.spec_from_file_location("build_addon", ROOT / "blender_addon" / "build_addon.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_manifest_is_filled_in(tmp_path):
    path = tmp_path / "blender_manifest.toml"
    path.write_text((ROOT / "blender_addon" / "blender_manifest.toml").read_text())
    load_build().write_manifest(path, platforms=["linux-x64"], wheels=["a-1-py3-none-any.whl"])
    manifest = tomllib.loads(path.read_text())
    assert manifest["platforms"] == ["linux-x64"] and manifest["wheels"] == ["./wheels/a-1-py3-none-any.whl"]


def test_the_manifest_keeps_blenders_rules():
    manifest = tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text())
    texts = [manifest["tagline"], *manifest["permissions"].values()]
    assert all(len(text) <= 64 and text[-1].isalnum() for text in texts)
    assert manifest["license"] == ["SPDX:GPL-3.0-or-later"]


def test_the_versions_of_extension_and_library_agree():
    manifest = tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert manifest["version"] == project["project"]["version"]


def test_the_wheels_are_those_that_the_tests_run_with():
    pinned = (ROOT / "tests" / "blender_addon" / "requirements.txt").read_text().splitlines()
    assert set(load_build().WHEELS) <= set(pinned)


def test_no_module_of_the_extension_imports_it_by_name():
    """As an extension its name is another: every import of its own must be relative."""
    for path in (ROOT / "blender_addon").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("blender_addon", "mvgamba", "mvgamba_rpc"), f"{path}:{number}"


@pytest.fixture(scope="module")
def linux_zip(tmp_path_factory):
    """Built with wheels from the index; skipped where there is none."""
    pytest.importorskip("bpy", reason="needs the extension tool of Blender")
    build = load_build()
    out = tmp_path_factory.mktemp("dist")
    try:
        (path,) = build.build(out, platforms=["linux-x64"])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no package index to download the wheels from: {error}")
    return path


@pytest.mark.slow
@pytest.mark.blender
def test_the_zip_holds_what_it_should_and_nothing_else(linux_zip):
    names = zipfile.ZipFile(linux_zip).namelist()
    assert {"blender_manifest.toml", "LICENSE", "__init__.py", "client/rpc/generation_pb2.py"} <= set(names)
    assert not [n for n in names if "__pycache__" in n or n.startswith("build_addon") or n.endswith(".blend")]
    wheels = [n for n in names if n.endswith(".whl")]
    assert {"cp311", "cp313"} <= {tag for n in wheels for tag in ("cp311", "cp313") if tag in n and "grpcio" in n}
    assert not [n for n in wheels if "win" in n or "macosx" in n]


def run_in_blender(program, folder):
    """A program in a Blender whose user has nothing but `folder`; what it printed."""
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(folder), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program) + "\nprint('DONE')"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "DONE" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.blender
def test_blender_installs_and_updates_from_the_repository(tmp_path, monkeypatch):
    pytest.importorskip("bpy", reason="needs the extension tool of Blender")
    build, served, nothing = load_build(), tmp_path / "dist", tmp_path / "nothing"
    nothing.mkdir()
    build.build(served, platforms=["linux-x64", "windows-x64", "macos-arm64"], wheels=nothing)  # grpcio is here already
    build.write_index(served)
    user = tmp_path / "user"
    user.mkdir()
    # Blender as a module reads no preferences, so each process names the repository anew.
    begin = f"""
        import bpy, tomllib
        from pathlib import Path
        bpy.context.preferences.system.use_online_access = True
        repositories = bpy.context.preferences.extensions.repos
        repositories.new(name="MVGamba", module="own", remote_url={(served / "index.json").as_uri()!r})
        index = len(repositories) - 1
        assert bpy.ops.extensions.repo_sync(repo_index=index) == {{"FINISHED"}}
        manifest = Path(bpy.utils.user_resource("EXTENSIONS")) / "own" / "mvgamba" / "blender_manifest.toml"
        """
    install = """
        assert not manifest.exists()
        assert bpy.ops.extensions.package_install(repo_index=index, pkg_id="mvgamba") == {"FINISHED"}
        assert bpy.context.scene.mvgamba.quality == "STANDARD"
        """
    run_in_blender(begin + install, user)
    for path in served.glob("*.zip"):
        path.unlink()
    newer = tmp_path / "newer"
    shutil.copytree(ROOT / "blender_addon", newer, ignore=shutil.ignore_patterns("__pycache__", "wheels"))
    manifest = newer / "blender_manifest.toml"
    manifest.write_text(re.sub(r'^version = ".*"$', 'version = "9.9.9"', manifest.read_text(), flags=re.MULTILINE))
    monkeypatch.setattr(build, "SOURCE", newer)
    build.build(served, platforms=["linux-x64", "windows-x64", "macos-arm64"], wheels=nothing)
    build.write_index(served)
    update = """
        bpy.ops.extensions.package_upgrade_all()
        assert tomllib.loads(manifest.read_text())["version"] == "9.9.9"
        """
    run_in_blender(begin + update, user)


@pytest.mark.slow
@pytest.mark.blender
@pytest.mark.skipif(sys.platform != "linux", reason="the zip that is built here is for Linux")
def test_blender_installs_the_zip_and_uses_its_wheels(linux_zip, tmp_path):
    install = f"""
        import bpy
        answer = bpy.ops.extensions.package_install_files(
            filepath={str(linux_zip)!r}, repo="user_default", enable_on_install=True)
        assert answer == {{"FINISHED"}}, answer
    """
    # A second process, in which the wheels of the extension go before the packages of the environment of this test.
    use = f"""
        import bpy, sys
        from pathlib import Path
        folder, = Path({str(tmp_path)!r}).glob("extensions/.local/lib/python*/site-packages")
        sys.path.insert(0, str(folder))
        bpy.ops.preferences.addon_enable(module="bl_ext.user_default.mvgamba")
        import grpc, google.protobuf, typing_extensions
        for module in (grpc, google.protobuf, typing_extensions):
            assert Path(module.__file__).is_relative_to(folder), module.__file__
        assert bpy.context.scene.mvgamba.quality == "STANDARD"
        bpy.ops.preferences.addon_disable(module="bl_ext.user_default.mvgamba")
    """
    for program in (install, use):
        run_in_blender(program, tmp_path)
