"""Weights of the starter generator from elsewhere, taken into the user's folder, with the memory that lies beside them."""

import datetime
import os
import shutil
from pathlib import Path

from mvgamba.multiview.memory_files import ATLAS, read_memory
from mvgamba.multiview.starter_model import load_starter
from mvgamba.weights import Weights, check_name, memory_name, sha256_of
from mvgamba.weights.user import forget, register, write_card, writing_to


def import_starter(
    file: Path, user_folder: Path, *, name: str | None = None, licence: str = "unknown", preferred: bool = False
) -> Weights:
    """Check a file that `mvgamba train generator` wrote, copy it and register it.

    A memory that lies beside it is what it was taught with, and is taken in too: NAME-memory.webp and .json, or the files as
    `mvgamba train memory` calls them.

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
    atlas = memory_beside(file)
    objects = 0
    if atlas is not None:
        check_name(memory_name(name))
        objects = len(read_memory(atlas).objects)
    target = user_folder / f"{name}.safetensors"
    with writing_to(user_folder):
        _copy(file, target)
    network = model.config.network
    size = f"{network.num_layers} layers of width {network.width}, {len(model.config.words.vocabulary)} words"
    about = f"Imported from {file.name}: {size}{f', with a memory of {objects} objects' if objects else ''}."
    weights = Weights(name, "generator", "starter", target.name, sha256_of(target), licence, about, preferred=preferred)
    # first the memory, so that nobody meets the weights with that of others
    if atlas is None:
        forget(memory_name(name), user_folder)
    else:
        _import_memory(atlas, user_folder, name=name, licence=licence, objects=objects)
    weights = register(weights, user_folder)
    today = datetime.date.today().isoformat()
    facts = {"network": size, "learned from": "unknown", "imported": f"{today}, from {file.name}"}
    if objects:
        facts["learned from"] = f"{objects} objects that `{memory_name(name)}` remembers"
    write_card(weights, user_folder, facts)
    return weights


def memory_beside(file: Path) -> Path | None:
    """The picture of a memory that belongs to a file of weights."""
    places = (file.with_name(f"{memory_name(file.stem)}.webp"), file.with_name(ATLAS))
    return next((place for place in places if place.is_file()), None)


def _import_memory(atlas: Path, user_folder: Path, *, name: str, licence: str, objects: int) -> None:
    entry = memory_name(name)
    picture, table = user_folder / f"{entry}.webp", user_folder / f"{entry}.json"
    with writing_to(user_folder):
        _copy(atlas.with_suffix(".json"), table)
        _copy(atlas, picture)
    about = f"{objects} objects that {name} was taught with."
    parts = {table.name: sha256_of(table)}
    # not preferred: it is found by its name, and is none for the weights of the package
    memory = Weights(entry, "memory", "starter", picture.name, sha256_of(picture), licence, about, parts=parts)
    register(memory, user_folder)
    write_card(memory, user_folder, {"objects": str(objects), "belongs to": f"`{name}`"})


def _copy(source: Path, target: Path) -> None:
    """In one move, so that a reader meets the old or the new."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
