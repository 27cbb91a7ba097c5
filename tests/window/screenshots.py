"""Pictures of the extension for its README, in both themes: every state of the panel, the cameras, a scene of results.

    MVGAMBA_WINDOW_ROOT=.window python tests/window/screenshots.py --out blender_addon/docs

One Blender, the newest; the scene of results is made by the real pipeline. Look at them before you commit them.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from tests.window.blender import run_scenario  # noqa: E402
from tests.window.chroots import RELEASES, ROOT, ensure_host_packages  # noqa: E402

THEMES = {"dark": "Blender_Dark", "light": "Blender_Light"}
MOST_BYTES = 90_000
"""Of one picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "blender_addon" / "docs", help="folder for the pictures")
    out = parser.parse_args().out
    ensure_host_packages()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, theme in THEMES.items():
            options = {"theme": theme}
            play(folder / name / "panels", "panels", options=options)
            play(folder / name / "open", "panels", options={**options, "open": True}, size=(1280, 1900))
            for path in (folder / name).glob("*/*.png"):
                path.rename(path.with_stem(f"{path.stem}_{name}"))
        play(folder / "showcase", "showcase", pipeline="real")
        play(folder / "languages", "languages")
        side_by_side(sorted((folder / "languages").glob("language_*.png")), folder / "languages.png")
        for unwanted in ("preferences_*", "open_*_empty_*", "language_*"):  # a path of this machine; shown already
            for path in folder.rglob(f"{unwanted}.png"):
                path.unlink()
        for path in sorted(folder.rglob("*.png")):
            print(keep(path, out / path.name))


def play(out: Path, scenario: str, **settings: Any) -> None:
    """One scenario in the newest Blender; ends this program when it goes wrong."""
    outcome = run_scenario(RELEASES[-1], scenario, out, limit=900, **settings)
    if outcome.problem or outcome.errors:
        sys.exit("\n".join([outcome.problem, *outcome.errors]))


def side_by_side(paths: list[Path], target: Path) -> None:
    """One picture of several, with a little room between them."""
    images = [Image.open(path).convert("RGB") for path in paths]
    sheet = Image.new("RGB", (sum(i.width + 8 for i in images) - 8, max(i.height for i in images)), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + 8
    sheet.save(target)


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
