"""What a file of weights says about itself: the header of `.safetensors`, and the same beside it as JSON for people."""

import json
from pathlib import Path
from typing import Any

from mvgamba.errors import WeightsCorrupt


def read_header(path: Path) -> dict[str, Any]:
    """The words of the header, `config` as the table it holds; empty for a file that says nothing.

    Raises: WeightsCorrupt, if the file is not of this kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            words: dict[str, Any] = dict(file.metadata() or {})
        return words | ({"config": json.loads(words["config"])} if "config" in words else {})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsCorrupt(f"{path.name} is not a .safetensors file: {error}.") from error


def write_config(path: Path) -> Path:
    """Write the header of NAME.safetensors to NAME.json beside it. The header is what is read; this is for people and tools."""
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(read_header(path), indent=1) + "\n", encoding="utf-8")
    return beside
