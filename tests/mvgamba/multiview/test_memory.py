"""What the starter generator remembers: the shipped memory, and small ones made here."""

import json

import numpy as np
import pytest
import torch

from mvgamba import weights
from mvgamba.errors import InvalidInput, WeightsCorrupt, WeightsMissing
from mvgamba.multiview.captions import COLOR_NAMES, phrase_of
from mvgamba.multiview.memory import StarterMemory, changes, load_memory
from mvgamba.multiview.memory_files import RememberedObject, read_memory, write_memory
from mvgamba.multiview.starter_network import to_signal

RED, GREY, GREEN = (200, 30, 30), (128, 128, 128), (40, 160, 60)


@pytest.fixture(scope="module")
def shipped() -> StarterMemory:
    return load_memory()


def thing(name: str, caption: str, *colors: tuple[str, float, tuple[int, int, int]]) -> RememberedObject:
    names, shares, rgb = zip(*colors, strict=True)
    return RememberedObject(
        name,
        (caption,),
        "food" if name == "beet" else "category",
        "family",
        np.array(names),
        np.array(rgb, np.float32) / 255,
        np.array(shares, np.float32),
    )


THINGS = [
    thing("barrel", "a barrel", ("red", 0.8, RED), ("grey", 0.2, GREY)),
    thing("house", "a house with a green roof", ("grey", 0.7, GREY), ("green", 0.3, GREEN)),
    thing("tree", "a tree", ("green", 1.0, GREEN)),
    thing("beet", "a beet", ("green", 0.5, GREEN), ("pink", 0.4, (230, 150, 200))),
    thing("cactus", "a potted cactus", ("red", 0.6, RED), ("green", 0.4, GREEN)),
]


def pictures(size: int = 32) -> list[np.ndarray]:
    """A box in the main colour of each, of another width, lower on the left side of its front, and marks that tell views apart."""
    found = []
    for i, one in enumerate(THINGS):
        rgba = np.zeros((6, size, size, 4), np.uint8)
        rgba[:, 8:24, 6 + 2 * i : 26, :3] = (255 * one.color_rgb[0]).round()
        rgba[:, 8:24, 6 + 2 * i : 26, 3] = 255
        for view in range(6):
            rgba[view, 8 : 10 + view, 6 + 2 * i : 12] = 0
        found.append(rgba)
    return found


@pytest.fixture
def written(tmp_path):
    write_memory(THINGS, pictures(), tmp_path)
    return tmp_path / "starter-memory.webp"


def test_what_is_written_is_read_again_to_the_bit(written):
    memory = StarterMemory(read_memory(written))
    for i, (mine, theirs, rgba) in enumerate(zip(THINGS, memory.objects, pictures(), strict=True)):
        assert (mine.name, mine.captions, mine.category, mine.family) == (
            theirs.name,
            theirs.captions,
            theirs.category,
            theirs.family,
        )
        assert (mine.color_names == theirs.color_names).all()
        assert np.allclose(mine.color_rgb, theirs.color_rgb) and np.allclose(mine.color_shares, theirs.color_shares)
        expected = torch.from_numpy(rgba).permute(0, 3, 1, 2).float() / 255
        assert torch.equal(memory.views(i), expected[:5])
        assert torch.equal(memory.views(i, mirrored=True), expected[[0, 3, 2, 1, 5]].flip(-1))


def test_the_nearest_object_of_a_copy_is_itself_and_so_is_that_of_its_mirror_image(written):
    memory = StarterMemory(read_memory(written))
    for i, one in enumerate(memory.objects):
        for mirrored in (False, True):
            views = memory.views(i, mirrored=mirrored)
            near = memory.nearest(to_signal(views[:, :3], views[:, 3:]))
            assert near.name == one.name and near.distance < 1e-4 and near.relative < 0.01
    views = memory.views(0)
    painted = torch.cat([1 - views[:, :3], views[:, 3:]], 1)
    signals = to_signal(painted[:, :3], painted[:, 3:])
    assert memory.nearest(signals).distance > 0.05
    assert memory.nearest(signals, shape_only=True).distance < 1e-4
    with pytest.raises(InvalidInput, match="at least 16"):
        memory.nearest(torch.zeros(5, 4, 8, 8))


def test_the_usual_distance_is_that_from_one_object_to_the_next(written):
    content = read_memory(written)
    memory = StarterMemory(content)
    signals = [to_signal(v[:, :3], v[:, 3:]) for v in (memory.views(i) for i in range(5))]
    small = [torch.nn.functional.adaptive_avg_pool2d(s, 16) for s in signals]
    nearest = [min(float((small[i] - small[j]).square().mean()) for j in range(5) if j != i) for i in range(5)]
    # a mirror image may come nearer, never the other way round
    assert 0 < content.usual[0] <= sorted(nearest)[2] * 1.01


@pytest.mark.parametrize(
    ("prompt", "caption", "expected"),
    [
        ("a barrel", 0, []),
        ("a red barrel", 0, []),
        ("a blue barrel", 0, [(0, "blue")]),
        ("a blue and white barrel", 0, [(0, "blue"), (1, "white")]),
        ("a grey and red barrel", 0, []),
        ("a grey and blue barrel", 0, [(0, "blue")]),
        ("a house with a red roof", 1, [(1, "red")]),
        ("a white house", 1, [(0, "white")]),
        ("a white house with a red roof", 1, [(1, "red"), (0, "white")]),
        ("a house with a green roof", 1, []),
        ("a red and blue tree", 2, [(0, "red")]),
        ("a yellow beet", 3, [(1, "yellow")]),
        ("a blue cactus", 4, [(1, "blue")]),
        ("a blue and white cactus", 4, [(1, "blue"), (0, "white")]),
    ],
)
def test_colours_go_where_the_prompt_puts_them(prompt, caption, expected):
    assert changes(THINGS[caption], phrase_of(prompt)) == expected


def test_damaged_files_are_told_from_missing_ones(written, tmp_path):
    table = written.with_suffix(".json")
    text, data = table.read_text(), written.read_bytes()
    for wrong in (
        "{",
        "[]",
        "{}",
        text.replace('"memory"', '"other"'),
        text.replace('"captions": ["a tree"]', '"captions": []'),
    ):
        table.write_text(wrong)
        with pytest.raises(WeightsCorrupt, match=r"starter-memory\.json is not the table"):
            read_memory(written)
    table.write_text(json.dumps(json.loads(text) | {"size": 48}))
    with pytest.raises(WeightsCorrupt, match="do not belong together"):
        StarterMemory(read_memory(written)).views(0)
    table.write_text(text)
    for wrong_data in (b"", data[: len(data) // 2], b"no picture"):
        written.write_bytes(wrong_data)
        with pytest.raises(WeightsCorrupt, match="cannot be read"):
            StarterMemory(read_memory(written)).recall("a tree")
    written.unlink()
    with pytest.raises(WeightsMissing, match=r"starter-memory\.webp is not there"):
        read_memory(written)


def test_a_memory_that_would_not_fit_is_not_written(tmp_path):
    with pytest.raises(InvalidInput, match="2 to 2500 objects, got 1"):
        write_memory(THINGS[:1], pictures()[:1], tmp_path)
    with pytest.raises(InvalidInput, match="multiples of 16"):
        write_memory(THINGS, [p[:, :20, :20] for p in pictures()], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_shipped_memory_is_small_and_both_its_files_are_in_the_manifest(tmp_path, monkeypatch):
    entry = weights.default("memory", "starter")
    assert entry is not None and set(entry.parts) == {"starter-memory.json"}
    assert entry.path.stat().st_size < 3 * 2**20
    assert entry.path.with_suffix(".json").stat().st_size < 300 * 2**10
    for file in (entry.file, *entry.parts):
        (tmp_path / file).write_bytes((entry.path.parent / file).read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps([entry.as_entry()]))
    monkeypatch.setattr(weights, "folder", lambda: tmp_path)
    load_memory()
    table = tmp_path / "starter-memory.json"
    table.write_text(table.read_text().replace("barrel", "bareel", 1))
    with pytest.raises(WeightsCorrupt, match=r"starter-memory\.json are not those that were shipped"):
        load_memory()
    table.unlink()
    with pytest.raises(WeightsMissing, match=r"starter-memory\.json"):
        load_memory()


def test_every_caption_recalls_an_object_of_that_caption(shipped):
    captions = [o.captions[0] for o in shipped.objects[::4]]
    found = [shipped.recall(caption)[0].caption == caption for caption in captions]
    assert len(shipped.objects) == 719 and np.mean(found) >= 0.95
    assert {c for o in shipped.objects for c in o.color_names.tolist()} <= set(COLOR_NAMES)


@pytest.mark.parametrize(
    ("prompt", "noun"),
    [
        ("a red barrel", "barrel"),
        ("a park bench", "bench"),
        ("a park tree", "tree"),
        ("a table with a lamp", "table"),
        ("two coins", "coin"),
        ("a treasure chest full of gold coins", "chest"),
        ("a loaf of bread", "bread"),
        ("bareles", "barrel"),
    ],
)
def test_a_prompt_recalls_its_head_noun(shipped, prompt, noun):
    best = shipped.recall(prompt, 1)[0]
    assert noun in best.caption.split(" with ")[0] and 0.4 < best.score <= 1
    assert best.views.shape == (5, 4, 64, 64)


def test_recollections_come_best_first_and_a_seed_chooses_among_equals(shipped):
    found = shipped.recall("a pine tree", 20)
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)
    assert [r.object.name for r in found] == [r.object.name for r in shipped.recall("a pine tree", 20)]

    def seeded(seed: int) -> list[tuple[str, bool]]:
        generator = torch.Generator().manual_seed(seed)
        return [(r.object.name, r.mirrored) for r in shipped.recall("a pine tree", 2, generator)]

    assert seeded(0) == seeded(0)
    assert len({str(seeded(seed)) for seed in range(8)}) > 2
    # what has the colour comes first
    assert shipped.recall("an orange pine tree")[0].caption == "an orange pine tree"
    with pytest.raises(InvalidInput, match="n is 0"):
        shipped.recall("a tree", 0)
    assert shipped.recall("") == shipped.recall("樽 🛢️") == []


def test_a_red_barrel_is_mostly_red(shipped):
    barrel = shipped.recall("a red barrel")[0]
    views = shipped.repaint(barrel, "a red barrel")
    seen = views.permute(0, 2, 3, 1)[views[:, 3] > 0.9][:, :3]
    red = (seen[:, 0] > 2.2 * seen[:, 1]) & (seen[:, 0] > 2.2 * seen[:, 2])
    assert red.float().mean() > 0.5
    before = barrel.views.permute(0, 2, 3, 1)[views[:, 3] > 0.9][:, :3]
    assert ((before[:, 0] > 2.2 * before[:, 1]) & (before[:, 0] > 2.2 * before[:, 2])).float().mean() < 0.1
    assert torch.equal(views[:, 3], barrel.views[:, 3])
    assert torch.equal(shipped.repaint(barrel, "a barrel"), barrel.views)


def test_distances_say_what_is_new(shipped):
    views = shipped.views(100)
    assert shipped.nearest(to_signal(views[:, :3], views[:, 3:])).relative < 0.02
    noise = torch.rand(5, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert shipped.nearest(to_signal(noise[:, :3], noise[:, 3:])).relative > 1
