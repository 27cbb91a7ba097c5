"""What the Hugging Face hub says of a model and its files, for a server on this machine."""

import hashlib
import json
from collections.abc import Mapping

REVISION = "0123456789abcdef0123456789abcdef01234567"


def answers(repository: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """By path. Large files are told by SHA-256, small ones by git's hash of a blob."""
    served, rows = {}, []
    for name, data in sorted(files.items()):
        served[f"{repository}/resolve/{REVISION}/{name}"] = data
        row: dict[str, object] = {"type": "file", "path": name, "size": len(data)}
        row["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        if name.endswith(".safetensors"):
            row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}
        rows.append(row)
    rows.append({"type": "directory", "path": "unet", "oid": "0" * 40, "size": 0})
    served[f"api/models/{repository}/revision/main"] = json.dumps({"sha": REVISION}).encode()
    served[f"api/models/{repository}/tree/{REVISION}?recursive=true"] = json.dumps(rows).encode()
    return served


def small_model(folders: tuple[str, ...]) -> dict[str, bytes]:
    """Files of a model with these components: the published layout, and nothing in it."""
    files = {"model_index.json": b'{"_class_name": "MVDreamPipeline"}'}
    for number, folder in enumerate(folders):
        files[f"{folder}/config.json"] = b'{"number": %d}' % number
    files["unet/diffusion_pytorch_model.safetensors"] = bytes(range(256)) * 4000
    files["vae/diffusion_pytorch_model.safetensors"] = bytes(range(255, -1, -1)) * 1000
    return files
