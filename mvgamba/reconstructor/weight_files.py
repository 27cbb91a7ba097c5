"""Files of weights from elsewhere, taken into the user's folder in the house's form: `.safetensors`, configuration, card."""

import dataclasses
import datetime
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError

from mvgamba.errors import DiskFull, InvalidInput, OutputFailed, WeightsCorrupt, WeightsMissing
from mvgamba.reconstructor.checkpoint import load_checkpoint, save_safetensors
from mvgamba.reconstructor.network import MVGambaNetwork
from mvgamba.reconstructor.ray_network import RayNetwork
from mvgamba.reconstructor.ray_reconstructor import load_ray_network
from mvgamba.weights import Weights, check_name, sha256_of
from mvgamba.weights.header import read_header
from mvgamba.weights.user import VARIABLE, register, write_card, writing_to

KINDS = ("reconstructor",)


def import_weights(
    file: Path,
    user_folder: Path,
    *,
    name: str | None = None,
    kind: str = "reconstructor",
    licence: str = "unknown",
    preferred: bool = False,
    origin: str | None = None,
) -> Weights:
    """Check a file of weights, copy or convert it, and register it.

    The ray network's `.safetensors` is copied as it is. The published network is read from a checkpoint of tensors or from
    `.safetensors`, with or without a header, and written in single precision with its configuration in the header.

    Args:
        name: What it is called from now on; the file's own name unless given.
        preferred: Use it before what comes with the package.
        origin: What the card says it came from; the file's name unless given.
    Raises:
        InvalidInput: The name or kind cannot be used.
        WeightsMissing, WeightsCorrupt: No file, or not the weights of a network that is known here.
        DiskFull, OutputFailed.
    """
    name = name or file.stem
    check_name(name)
    if kind not in KINDS:
        raise InvalidInput(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if not file.is_file():
        raise WeightsMissing(f"There is no file {file}.")
    target = user_folder / f"{name}.safetensors"
    network = _network_of(file)
    with writing_to(user_folder):
        _check_room(network, user_folder)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            if isinstance(network, RayNetwork):
                shutil.copyfile(file, partial)
            else:
                save_safetensors(network, partial)
            os.replace(partial, target)
        except SafetensorError as error:
            raise OutputFailed(f"{target} could not be written: {error}.") from error
        finally:
            partial.unlink(missing_ok=True)
    model = "ray" if isinstance(network, RayNetwork) else "mvgamba"
    size = f"{network.config.num_layers} layers of width {network.config.width}"
    count = sum(p.numel() for p in network.parameters())
    today = datetime.date.today().isoformat()
    about = f"Imported from {origin or file.name}: {size}, {count:,} parameters."
    weights = Weights(name, kind, model, target.name, sha256_of(target), licence, about, preferred=preferred)
    weights = register(weights, user_folder)
    facts = {
        "network": f"{size}, {count:,} parameters",
        "configuration": ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(network.config).items()),
        "learned from": "unknown",
        "imported": f"{today}, from {origin or file.name} (SHA-256 `{sha256_of(file)}`)",
    }
    write_card(weights, user_folder, facts)
    return weights


def _network_of(file: Path) -> RayNetwork | MVGambaNetwork:
    """Raises: WeightsCorrupt."""
    if file.suffix.lower() == ".safetensors" and read_header(file).get("kind") == "ray":
        return load_ray_network(file)
    try:
        return load_checkpoint(file)
    except WeightsCorrupt as error:
        raise WeightsCorrupt(
            f"{error} What can be imported: a .safetensors file of the ray network, or a checkpoint of the MVGamba network "
            "(.pth of tensors only, or .safetensors)."
        ) from error


def _check_room(network: RayNetwork | MVGambaNetwork, user_folder: Path) -> None:
    need = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    free = shutil.disk_usage(user_folder).free
    if free < need:
        raise DiskFull(
            f"{need / 2**20:.0f} MiB are needed and {free / 2**20:.0f} MiB are free in {user_folder}. Make room, or set "
            f"{VARIABLE} to a folder elsewhere."
        )
