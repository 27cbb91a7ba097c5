"""Generate the Python of the contract beside its .proto files.

    python protos/generate.py             rewrite what is committed
    python protos/generate.py --check     say whether it is fresh; status 1 if not

Imports between the generated files are made relative, so that copies work under any name: the extension carries one as
`client/rpc`, which is written and checked along.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = "mvgamba_rpc"
ADDON_COPY = ROOT.parent / "blender_addon" / "client" / "rpc"
"""The extension's own copy of version 1."""
_ABSOLUTE_IMPORT = re.compile(rf"^from {PACKAGE}\.v(\d+) import ", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not fresh")
    arguments = parser.parse_args()
    stale = stale_files()
    for path, text in stale.items():
        if arguments.check:
            print(f"{path.relative_to(ROOT.parent)} is not fresh; run `make protos`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path.relative_to(ROOT.parent))
    return 1 if stale and arguments.check else 0


def stale_files() -> dict[Path, str]:
    """Generated files that are missing or differ, with what they should hold."""
    return {
        path: text
        for path, text in generated_files().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def generated_files() -> dict[Path, str]:
    """What every generated file should hold."""
    protos = sorted(ROOT.glob(f"{PACKAGE}/v*/*.proto"))
    with tempfile.TemporaryDirectory(prefix="mvgamba-protos-") as folder:
        outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *outputs, *map(str, protos)]
        subprocess.run(command, check=True)
        generated = {
            ROOT / path.relative_to(folder): _ABSOLUTE_IMPORT.sub("from . import ", path.read_text(encoding="utf-8"))
            for path in sorted(Path(folder).rglob("*.py*"))
        }
    copy = {ADDON_COPY / path.name: text for path, text in generated.items() if path.parent.name == "v1"}
    return generated | copy


if __name__ == "__main__":
    sys.exit(main())
