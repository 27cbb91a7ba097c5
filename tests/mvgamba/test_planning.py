"""How much memory a job takes, known before it starts, and what is given up when there is less."""

import dataclasses
import platform
from pathlib import Path

import pytest

from mvgamba.errors import InvalidInput, OutOfMemory
from mvgamba.planning import (
    GIB,
    Job,
    Memory,
    Plan,
    control_group_headroom,
    fit_to_memory,
    free_memory,
    give_back_freed,
    job_of,
    plan,
)
from mvgamba.types import GenerateOptions


def job(views: int = 8, size: int = 256, *, has_depth: bool = False, **options: object) -> Job:
    made = GenerateOptions(**{"device": "cpu", **options})  # type: ignore[arg-type]
    return job_of(made, num_views=views, height=size, width=size, has_depth=has_depth)


def memory(gib: float, *, resident: float = 0.0, device: float | None = None) -> Memory:
    return Memory(int(gib * GIB), int(resident * GIB), None if device is None else int(device * GIB))


@pytest.mark.parametrize(
    "more",
    [
        {"views": 24},
        {"size": 512},
        {"has_depth": True},
        {"quality": "high"},
        {"texture_size": 4096},
        {"target_faces": 200_000},
    ],
)
def test_more_of_anything_takes_no_less_in_any_stage(more):
    least, most = plan(job(quality="draft")), plan(job(**{"quality": "draft", **more}))
    assert all(most.stages[s] >= least.stages[s] for s in least.stages)
    assert sum(most.stages.values()) > sum(least.stages.values())


def test_a_plan_has_the_stages_of_the_job_and_names_its_peak():
    with_fit, without = plan(job()), plan(job(refine=False))
    assert list(with_fit.stages) == ["prepare", "reconstruct", "refine", "mesh", "texture", "export"]
    assert "refine" not in without.stages and with_fit.device_stages == {}
    assert with_fit.peak == with_fit.stages[with_fit.peak_stage] == max(with_fit.stages.values())


def test_the_standard_job_stays_within_two_and_a_half_gibibytes():
    assert plan(job(quality="standard")).peak <= 2.5 * GIB


def test_a_device_has_a_plan_of_its_own():
    made = plan(job(device="cuda"))
    assert list(made.device_stages) == list(made.stages)
    assert made.device_peak == max(made.device_stages.values()) > made.device_stages["prepare"] > 0


def test_what_fits_is_left_as_it_is():
    wanted = job()
    fitted = fit_to_memory(wanted, memory(64))
    assert fitted.job == wanted and fitted.reduced == [] and fitted.plan == plan(wanted)


def test_memory_that_the_process_already_holds_counts_as_there():
    wanted = job()
    peak = plan(wanted).peak / GIB
    assert fit_to_memory(wanted, memory(peak - 0.2, resident=0.25)).reduced == []
    assert fit_to_memory(wanted, memory(peak - 0.2, resident=0.1)).reduced != []


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (job(texture_size=8192), "texture has 4096 pixels a side instead of 8192"),
        (job(views=64, size=1024), "averaged down to 512 x 512 pixels from 1024 x 1024"),
        (job(quality="high"), "The quality is draft"),
    ],
)
def test_cheaper_settings_are_taken_one_by_one_and_each_is_named(wanted, words):
    before = plan(wanted)
    fitted = fit_to_memory(wanted, memory(0.75 * before.peak / GIB))
    assert fitted.plan.peak <= 0.75 * before.peak and fitted.plan == plan(fitted.job)
    assert any(words in sentence for sentence in fitted.reduced), fitted.reduced
    assert len(set(fitted.reduced)) == len(fitted.reduced)


def test_nothing_is_given_up_that_does_not_help():
    # the texture has the peak: fewer faces or a coarser grid would cost quality for nothing
    fitted = fit_to_memory(job(texture_size=8192, target_faces=50_000), memory(4))
    assert fitted.job.texture_size < 8192
    assert fitted.job.preset.fuse_resolution == job().preset.fuse_resolution and fitted.job.target_faces == 50_000


def test_the_ladder_ends_with_the_numbers():
    with pytest.raises(OutOfMemory, match=r"needs \d\.\d\d GiB.*cheapest settings; 0\.10 GiB are free.*draft"):
        fit_to_memory(job(), memory(0.1))


def test_who_wants_no_cheaper_settings_gets_an_error():
    with pytest.raises(OutOfMemory, match=r"needs .* of more main memory; 0\.50 GiB are free"):
        fit_to_memory(job(quality="high"), memory(0.5), when_short="fail")


def test_a_short_device_is_told_from_short_main_memory():
    wanted = job(quality="high", device="cuda")
    assert fit_to_memory(wanted, memory(64, device=80)).reduced == []
    some = fit_to_memory(wanted, memory(64, device=0.8 * plan(wanted).device_peak / GIB))
    assert some.reduced and some.plan.device_peak <= 0.8 * plan(wanted).device_peak
    with pytest.raises(OutOfMemory, match="device memory.*run on the CPU"):
        fit_to_memory(wanted, memory(64, device=0.1))


def test_a_budget_counts_what_the_process_holds_and_what_is_free_counts_as_well():
    wanted = job(texture_size=4096)
    budget = int(0.75 * plan(wanted).peak) >> 20
    for resident in (0.0, 1.0):  # a budget is of the whole process: what it holds already is no gift
        fitted = fit_to_memory(wanted, memory(64, resident=resident).within(budget))
        assert fitted.reduced and fitted.plan.peak <= budget << 20
    assert fit_to_memory(wanted, memory(64).within(64 << 10)).reduced == []
    free = memory(0.6 * plan(wanted).peak / GIB)
    assert fit_to_memory(wanted, free.within(64 << 10)).reduced == fit_to_memory(wanted, free).reduced != []


def test_a_budget_binds_the_device_as_well_as_main_memory():
    wanted = job(views=4, size=128, quality="high", device="cuda", texture_size=512, target_faces=5000)
    assert plan(wanted).peak < 1900 << 20 < plan(wanted).device_peak
    fitted = fit_to_memory(wanted, memory(64, device=80).within(1900))
    assert fitted.reduced and max(fitted.plan.device_peak, fitted.plan.peak) <= 1900 << 20
    with pytest.raises(OutOfMemory, match=r"of device memory, .*; its budget is 0\.78 GiB.*or allow it more memory"):
        fit_to_memory(wanted, memory(64, device=80).within(800))
    with pytest.raises(OutOfMemory, match=r"of device memory, .*; 0\.50 GiB are free.*or run on the CPU"):
        fit_to_memory(wanted, memory(64, device=0.5).within(800))


def test_what_cannot_fit_into_its_budget_says_so_by_name():
    with pytest.raises(
        OutOfMemory,
        match=r"needs 1\.\d\d GiB of main memory, and 0\.\d\d GiB with the cheapest.*; its budget is 0\.10 GiB",
    ):
        fit_to_memory(job(), memory(64, resident=0.5).within(100))
    with pytest.raises(OutOfMemory, match=r"budget is 0\.49 GiB\. Use fewer .* or allow it more memory\.$"):
        fit_to_memory(job(), memory(64).within(500), when_short="fail")


@pytest.mark.parametrize(("changes", "words"), [({"views": 0}, "views is 0"), ({"size": 0}, "height is 0")])
def test_impossible_sizes_are_refused(changes, words):
    with pytest.raises(InvalidInput, match=words):
        job(**changes)


def test_this_machine_has_some_memory():
    now = free_memory()
    assert now.available > 0 and now.resident > 10 * 2**20 and now.device_available is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves")
def test_what_was_freed_between_what_is_kept_goes_back_to_the_system():
    give_back_freed()
    resident = free_memory().resident
    blocks = [bytes(1000) for _ in range(150_000)]
    kept = blocks[::100]  # all through it, so that no end of the heap is free
    del blocks
    held = free_memory().resident
    give_back_freed()
    left = free_memory().resident
    assert len(kept) == 1500 and held - resident > 100 << 20 and left - resident < 50 << 20


def write_group(folder: Path, *, limit: str, used: int, cache: int, version: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\n")


def test_the_tightest_limit_on_the_way_up_counts_and_cache_is_free(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("0::/jobs/one\n")
    root = tmp_path / "fs"
    write_group(root, limit="max", used=900, cache=0, version=2)
    write_group(root / "jobs", limit="1000", used=700, cache=100, version=2)
    write_group(root / "jobs" / "one", limit="800", used=100, cache=0, version=2)
    assert control_group_headroom(root, membership) == 400
    write_group(root / "jobs" / "one", limit="300", used=290, cache=5, version=2)
    assert control_group_headroom(root, membership) == 15
    write_group(root / "jobs" / "one", limit="300", used=400, cache=0, version=2)
    assert control_group_headroom(root, membership) == 0


def test_groups_of_the_first_version_are_read_too(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n")
    write_group(tmp_path / "fs" / "memory" / "a", limit="500", used=100, cache=50, version=1)
    write_group(tmp_path / "fs" / "memory", limit=str(2**63 - 4096), used=100, cache=0, version=1)
    assert control_group_headroom(tmp_path / "fs", membership) == 450


def test_without_groups_or_limits_there_is_no_headroom_to_keep(tmp_path):
    assert control_group_headroom(tmp_path, tmp_path / "missing") is None
    membership = tmp_path / "cgroup"
    membership.write_text("0::/\n")
    assert control_group_headroom(tmp_path, membership) is None


def test_each_stage_is_in_the_plan_even_for_the_cheapest_job():
    tiny = plan(job(views=1, size=16, quality="draft", target_faces=100, texture_size=128, refine=False))
    assert isinstance(tiny, Plan) and min(tiny.stages.values()) > 0.2 * GIB  # the libraries alone
    assert dataclasses.replace(tiny, device_stages={}).device_peak == 0
