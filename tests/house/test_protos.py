"""The generated files of the contract are fresh, relative in their imports, and speak plainly."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools", reason="grpcio-tools generates the files to compare with")

ROOT = Path(__file__).parents[2]


def load_generator(path: Path):
    spec = importlib.util.spec_from_file_location("generate_protos", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_files_are_what_the_generator_makes():
    stale = load_generator(ROOT / "protos/generate.py").stale_files()
    assert [path.name for path in stale] == []


def test_a_changed_proto_is_noticed(tmp_path):
    for tree in ("protos", "blender_addon/client/rpc"):
        shutil.copytree(ROOT / tree, tmp_path / tree, ignore=shutil.ignore_patterns("__pycache__"))
    proto = tmp_path / "protos/mvgamba_rpc/v1/generation.proto"
    text = proto.read_text(encoding="utf-8")
    assert "uint32 attempt = 12;" in text
    proto.write_text(text.replace("uint32 attempt = 12;", "uint32 attempts = 12;"), encoding="utf-8")
    stale = load_generator(tmp_path / "protos/generate.py").stale_files()
    assert {path.parent.name for path in stale if path.name == "generation_pb2.py"} == {"v1", "rpc"}


def test_a_copy_works_under_another_name(tmp_path):
    shutil.copytree(ROOT / "protos/mvgamba_rpc", tmp_path / "addon/client/rpc")
    for package in ("addon", "addon/client"):
        (tmp_path / package / "__init__.py").write_text("")
    code = "from addon.client.rpc.v1 import generation_pb2_grpc as g; import sys; assert 'mvgamba_rpc' not in sys.modules; g.GenerationServiceStub"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": "."})


def test_enums_begin_unspecified():
    from mvgamba_rpc.v1 import generation_pb2

    for enum in generation_pb2.DESCRIPTOR.enum_types_by_name.values():
        assert enum.values[0].number == 0
        assert enum.values[0].name.endswith("_UNSPECIFIED"), enum.name


def test_each_method_has_messages_of_its_own():
    from mvgamba_rpc.v1 import generation_pb2

    service = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
    for method in service.methods:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"
