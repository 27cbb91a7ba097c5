"""The subject of any picture by `rembg`, where that package and one of its models are installed. Nothing is ever downloaded."""

import importlib.util
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mvgamba.errors import Unavailable
from mvgamba.multiview.plain_background import Matte

log = logging.getLogger(__name__)

MODELS = ("birefnet-general", "isnet-general-use", "birefnet-general-lite", "u2net", "silueta", "u2netp")
"""Names that rembg has for models of things of any kind whose licence allows any use, the better ones first."""

HOW_TO_GET_IT = "pip install 'rembg[cpu]' and, once, rembg d u2net"


def rembg_matte(rgb: UInt8[np.ndarray, "H W 3"]) -> Matte:
    """What the best model that is there takes for the subject.

    Raises: Unavailable where rembg or a model is not there or does not load, with what to do.
    """
    reason = why_no_rembg()
    if reason is not None:
        raise Unavailable(f"{reason} To get it: {HOW_TO_GET_IT}.")
    session = _session(*_model_file())
    mask = session.predict(Image.fromarray(rgb))[0].convert("L")
    # its networks look at 320 to 1024 pixels and are soft by a few of them
    return Matte(np.asarray(mask, np.float32) / 255, max(1.0, max(rgb.shape[:2]) / 320))


def why_no_rembg() -> str | None:
    """None where it can be used."""
    for package in ("rembg", "onnxruntime"):  # rembg without onnxruntime ends the process on import
        if importlib.util.find_spec(package) is None:
            return f"The package {package} is not installed."
    try:
        _model_file()
    except FileNotFoundError as error:
        return str(error)
    return None


def _model_file() -> tuple[str, Path]:
    """Name and file of the best model; rembg knows where they are (U2NET_HOME and REMBG_HOME)."""
    classes = _session_classes()
    for name in MODELS:
        if name not in classes:
            continue
        kind = classes[name]
        if hasattr(kind, "resolve_existing"):  # since 2.0.80 there are two places
            found = kind.resolve_existing(f"{name}.onnx")
        else:
            found = os.path.join(kind.u2net_home(), f"{name}.onnx")
        if found and os.path.isfile(found):
            return name, Path(found)
    raise FileNotFoundError(f"rembg is installed, but none of its models is ({', '.join(MODELS)}).")


def _session_classes() -> dict[str, Any]:
    from rembg.sessions import sessions_class

    return {kind.name(): kind for kind in sessions_class}


@lru_cache(maxsize=1)
def _session(name: str, file: Path) -> Any:
    """A session of that file: rembg would look at its hash and download it again where it is another one."""
    import onnxruntime

    kind = _session_classes()[name]

    class FromFile(kind):  # type: ignore[misc, valid-type]
        @classmethod
        def download_models(cls, *args: Any, **kwargs: Any) -> str:
            return str(file)

    log.info("loading the background model %s", name)
    try:
        return FromFile(name, onnxruntime.SessionOptions())
    except Exception as error:  # noqa: BLE001  onnxruntime has classes of its own for each thing that can be wrong
        raise Unavailable(
            f"The model {name} of rembg does not load ({error}). Delete {file.name} and get it again: rembg d {name}."
        ) from error
