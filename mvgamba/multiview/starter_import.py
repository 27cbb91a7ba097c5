"""Weights of the starter generator from elsewhere, taken into the user's folder."""

import datetime
import os
import shutil
from pathlib import Path

from mvgamba.multiview.starter_model import load_starter
from mvgamba.weights import Weights, check_name, sha256_of
from mvgamba.weights.user import register, write_card, writing_to


def import_starter(
    file: Path, user_folder: Path, *, name: str | None = None, licence: str = "unknown", preferred: bool = False
) -> Weights:
    """Check a file that `mvgamba train generator` wrote, copy it and register it.

    Args:
        name: What it is called from now on; the file's own name unless given.
        preferred: Use it before what comes with the package.
    Raises:
        InvalidInput: The name cannot be used.
        WeightsMissing, WeightsCorrupt, DiskFull, OutputFailed.
    """
    name = name or file.stem
    check_name(name)
    model = load_starter(file)
    target = user_folder / f"{name}.safetensors"
    with writing_to(user_folder):
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            shutil.copyfile(file, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    network = model.config.network
    size = f"{network.num_layers} layers of width {network.width}, {len(model.config.words.vocabulary)} words"
    about = f"Imported from {file.name}: {size}."
    weights = Weights(name, "generator", "starter", target.name, sha256_of(target), licence, about, preferred=preferred)
    weights = register(weights, user_folder)
    today = datetime.date.today().isoformat()
    facts = {"network": size, "learned from": "unknown", "imported": f"{today}, from {file.name}"}
    write_card(weights, user_folder, facts)
    return weights
