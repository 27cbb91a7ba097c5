"""Pictures of the extension for its README, in both themes: every state of the panel, the cameras, a result.

    MVGAMBA_WINDOW_ROOT=.window python tests/window/screenshots.py --out blender_addon/docs

One Blender, the newest; a result is made by the real pipeline. Look at them before you commit them.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from tests.window.blender import run_scenario  # noqa: E402
from tests.window.chroots import RELEASES, ROOT, ensure_host_packages  # noqa: E402

THEMES = {"dark": "Blender_Dark", "light": "Blender_Light"}
MOST_BYTES = 60_000
"""Of one picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "blender_addon" / "docs", help="folder for the pictures")
    out = parser.parse_args().out
    ensure_host_packages()
    out.mkdir(parents=True, exist_ok=True)
    for name, theme in THEMES.items():
        with tempfile.TemporaryDirectory() as folder:
            for scenario, settings in {
                "panels": {"options": {"theme": theme}},
                "open": {"scenario": "panels", "options": {"theme": theme, "open": True}, "height": 1600},
                "first_asset": {"pipeline": "real", "install": False, "options": {"theme": theme}},
            }.items():
                outcome = run_scenario(
                    RELEASES[-1], **{"scenario": scenario, **settings}, out=Path(folder) / scenario, limit=600
                )
                if outcome.problem or outcome.errors:
                    sys.exit("\n".join([outcome.problem, *outcome.errors]))
            (Path(folder) / "first_asset" / "as_it_is.png").unlink()  # for whoever looks into a failed test
            for path in Path(folder).glob("*/preferences.png"):
                path.unlink()  # it shows where the extension lies on this machine
            for path in Path(folder).glob("*/open_*_empty.png"):
                path.unlink()  # the sub-panels are the same with words and without
            for path in sorted(Path(folder).glob("*/*.png")):
                print(keep(path, out / f"{path.stem}_{name}.png"))


def keep(path: Path, target: Path) -> str:
    """Copy a picture, with fewer colours and then smaller until it is small enough for a page."""
    shutil.copy(path, target)
    image = Image.open(path).convert("RGB")
    for colors, scale in ((128, 1.0), (64, 1.0), (64, 0.75), (64, 0.5)):
        if target.stat().st_size <= MOST_BYTES:
            break
        size = (round(scale * image.width), round(scale * image.height))
        image.resize(size, Image.Resampling.LANCZOS).quantize(colors).save(target, optimize=True)
    return f"{target}  {target.stat().st_size / 1000:.0f} kB"


if __name__ == "__main__":
    main()
