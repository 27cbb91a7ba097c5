"""Shards -> memory, through the command line."""

import io
import json
import tarfile

import numpy as np

from mvgamba.__main__ import main
from mvgamba.data.prompted_samples import PromptedSample, places
from mvgamba.multiview.memory import StarterMemory
from mvgamba.multiview.memory_files import read_memory
from mvgamba.training.prompted_batches import set_of_views


def sample(seed: int) -> PromptedSample:
    generator = np.random.default_rng(seed)
    rgba = generator.integers(1, 256, (len(places()), 16, 16, 4)).astype(np.uint8)
    rgb = generator.random((2, 3), np.float32)
    shares = np.array([0.7, 0.3], np.float32)
    return PromptedSample(
        len(rgba),
        rgba,
        np.array([f"a thing {seed}"]),
        np.array(["item"]),
        np.array(["x"]),
        np.array(["red", "tan"]),
        rgb,
        shares,
    )


def test_the_first_variant_of_each_object_is_remembered_with_its_mirror_image(tmp_path, capsys):
    shards = tmp_path / "shards"
    shards.mkdir()
    names = ["a.glb", "broken.glb", "b.glb"]
    (shards / "index.json").write_text(json.dumps({"kind": "prompted", "names": names}))
    (shards / "report.json").write_text(json.dumps({"skipped": {"broken.glb, variant 0": "no faces"}}))
    with tarfile.open(shards / "00000.tar", "w") as tar:
        for seed in range(4):  # two objects in two variants
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **sample(seed).arrays())
            entry = tarfile.TarInfo(f"{seed}.npz")
            entry.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(entry, buffer)
    assert main(["train", "memory", "--data", str(shards), "-o", str(tmp_path / "out"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"].rsplit(".")[-1] for line in lines] == ["webp", "json"]
    memory = StarterMemory(read_memory(tmp_path / "out" / "starter-memory.webp"))
    assert [(o.name, o.captions) for o in memory.objects] == [("a", ("a thing 0",)), ("b", ("a thing 1",))]
    for i in range(2):
        for mirrored in (False, True):
            expected = set_of_views(sample(i), 0, 0, mirrored=mirrored)
            assert (
                memory.views(i, mirrored=mirrored).permute(0, 2, 3, 1).numpy() * 255
            ).round().tolist() == expected.tolist()


def test_a_folder_without_shards_is_refused(tmp_path, capsys):
    assert main(["train", "memory", "--data", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "holds no shards" in capsys.readouterr().err
