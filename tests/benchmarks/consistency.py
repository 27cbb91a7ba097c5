"""How well the views of folders agree: the share of each silhouette that the visual hull of all of them fills again.

    python tests/benchmarks/consistency.py FOLDER [FOLDER ...] [--json]

A folder holds `transforms.json` and RGBA images, or a COLMAP text model. The object may stand anywhere: it is brought into the unit
frame first, as for a reconstruction. Views that have no point in common get 0.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mvgamba.errors import InvalidCameras
from mvgamba.io.captures import read_captures
from mvgamba.multiview.consistency import hull_agreement
from mvgamba.reconstructor.normalise import NORMALISED_RADIUS, normalise_views
from mvgamba.types import PosedViews


def agreement_of(views: PosedViews) -> list[float]:
    """Of views of an object that stands anywhere, one number a view. Raises: InvalidImage, InvalidInput."""
    try:
        normalised = normalise_views(views).views
    except InvalidCameras:
        return [0.0] * views.num_views
    return hull_agreement(normalised, extent=NORMALISED_RADIUS).tolist()


def main() -> None:
    """Print a line for each folder."""
    parser = argparse.ArgumentParser(description="Hull re-projection IoU of the views of folders.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    for folder in args.folders:
        views = read_captures(folder)
        begin = time.perf_counter()
        shares = agreement_of(views)
        mean = sum(shares) / len(shares)
        if args.json:
            row: dict[str, Any] = {"folder": folder.name, "mean": mean, "views": shares}
            print(json.dumps(row | {"seconds": time.perf_counter() - begin}), flush=True)
        else:
            print(f"{mean:.3f}  {folder.name}: " + " ".join(f"{share:.3f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
