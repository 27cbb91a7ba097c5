"""Which place a job gets on machines with other devices than this one."""

import pytest

from mvgamba_backend.engine import EngineSettings
from mvgamba_backend.engine.local import LocalEngine


def engine(tmp_path, *devices: str) -> LocalEngine:
    made = LocalEngine(EngineSettings("fake", tmp_path, cancel_grace=1.0, idle_exit=0.0))
    made._make_slots(list(devices))
    return made


@pytest.mark.parametrize(
    ("devices", "wanted", "places"),
    [
        ([], "auto", ["auto"]),  # nothing is known yet: one place, for whatever comes
        ([], "cuda", ["auto"]),
        (["cpu"], "auto", ["cpu"]),
        (["cpu", "cuda:0"], "auto", ["cuda:0"]),
        (["cpu", "cuda:0"], "cpu", ["cpu"]),
        (["cpu", "cuda:0", "cuda:1"], "auto", ["cuda:0", "cuda:1"]),
        (["cpu", "cuda:0", "cuda:1"], "cuda:1", ["cuda:1"]),
    ],
)
def test_a_job_waits_for_the_devices_that_it_may_have(tmp_path, devices, wanted, places):
    made = engine(tmp_path, *devices) if devices else LocalEngine(EngineSettings("fake", tmp_path, 1.0, 0.0))
    assert [slot.device for slot in made._slots_for(wanted)] == places
    assert made.has_room(wanted)


def test_a_numbered_device_waits_until_it_is_known_which_that_is(tmp_path):
    made = LocalEngine(EngineSettings("fake", tmp_path, 1.0, 0.0))
    assert not made.has_room("cuda:1")
    made._make_slots(["cpu", "cuda:0", "cuda:1"])
    assert made.has_room("cuda:1")


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0"])
def test_there_is_room_for_a_job_that_is_to_be_refused(tmp_path, wanted):
    made = engine(tmp_path, "cpu")
    assert made._slots_for(wanted) == [] and made.has_room(wanted)
    assert made._why_not(wanted) == f"There is no device {wanted} here; there are cpu. Take one of them, or auto."


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["", "1", "2"]), ("3,5,7", ["", "5", "7"]), ("GPU-a,GPU-b,GPU-c", ["", "GPU-b", "GPU-c"])],
)
def test_a_worker_sees_only_its_own_device(tmp_path, monkeypatch, visible, expected):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    made = engine(tmp_path, "cpu", "cuda:0", "cuda:1", "cuda:2")
    cuda = made._slots_for("cuda")
    # the first worker is the one that has looked, so it sees all and takes the first
    assert [slot.environment.get("CUDA_VISIBLE_DEVICES", "") for slot in cuda] == expected
    (cpu,) = made._slots_for("cpu")
    assert cpu.environment == {"CUDA_VISIBLE_DEVICES": ""}
