"""What a server tells about a result: facts.json of a job, as plain data."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultFacts:
    """With what one result was made. A server leaves out what it does not know."""

    asset_name: str = ""
    """Of the mesh on the server, such as mesh_2.glb."""
    seed: int | None = None
    generator: str = ""
    reconstructor: str = ""
    weights: str = ""
    """Of the generator and the reconstructor, each with the beginning of its SHA-256."""
    backend_version: str = ""
    warnings: tuple[str, ...] = ()


def read_facts(path: Path) -> tuple[ResultFacts, ...]:
    """Those of each variant; none, when the file is missing or is not one."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        version = str(table.get("version", ""))
        return tuple(_from_json(row, version) for row in table["results"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s tells nothing: %s", path.name, error)
        return ()


def _from_json(row: dict, version: str) -> ResultFacts:
    seed = row.get("seed")
    return ResultFacts(
        asset_name=str(row.get("asset", "")),
        seed=seed if isinstance(seed, int) else None,
        generator=str(row.get("generator") or ""),
        reconstructor=str(row.get("reconstructor") or ""),
        weights=_weights_from_json(row),
        backend_version=version,
        warnings=tuple(str(sentence) for sentence in row.get("warnings", ())),
    )


def _weights_from_json(row: dict) -> str:
    hashes = row.get("weights_sha256") or {}
    names = [str(row[key]) for key in ("generator_weights", "reconstructor_weights") if row.get(key)]
    return ", ".join(f"{name} {str(hashes[name])[:12]}" if name in hashes else name for name in names)
