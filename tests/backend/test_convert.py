"""Messages to values and back without loss."""

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvgamba.errors import InvalidInput
from mvgamba.progress import STAGES
from mvgamba_backend import convert
from mvgamba_backend.checks import BACKGROUNDS, SIDES
from mvgamba_backend.engine.protocol import Description
from mvgamba_backend.events import Event, LogText, PreviewImage
from mvgamba_backend.record import AssetRecord, JobFailure, JobRecord, JobState, ProgressRecord
from mvgamba_backend.spec import (
    CameraSpec,
    CaptureSource,
    ImageSource,
    JobMesh,
    JobSpec,
    Limits,
    MultiviewOptions,
    Options,
    SidePicture,
    TextSource,
    VariationSource,
    ViewSpec,
)
from mvgamba_rpc.v1 import generation_pb2 as pb

LIMITS = Limits()
names = st.text(min_size=1, max_size=20)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
numbers = st.floats(allow_nan=False)
sizes = st.integers(1, 2**32 - 1)
cameras = st.builds(
    CameraSpec,
    st.lists(numbers, min_size=16, max_size=16).map(tuple),
    numbers,
    numbers,
    numbers,
    numbers,
    sizes,
    sizes,
)
views = st.lists(st.builds(ViewSpec, hashes, cameras, st.none() | hashes), max_size=4).map(tuple)
captures = st.builds(CaptureSource, views)
specs = st.builds(
    JobSpec,
    st.one_of(
        st.builds(TextSource, st.text(), st.text()),
        st.builds(
            ImageSource,
            hashes,
            st.text(),
            st.none() | numbers,
            st.lists(st.builds(SidePicture, hashes, st.sampled_from(["", "front", *SIDES])), max_size=3).map(tuple),
            st.sampled_from(BACKGROUNDS),
        ),
        captures,
        st.builds(VariationSource, captures | st.builds(JobMesh, names, names), st.text(), st.text(), numbers),
    ),
    st.builds(
        Options,
        quality=st.sampled_from(["draft", "standard", "high"]),
        reconstructor=names,
        refine=st.booleans(),
        target_faces=sizes,
        texture_size=sizes,
        seed=st.none() | st.integers(0, 2**32 - 1),
        device=names,
        seconds=st.none() | numbers,
        multiview=st.builds(
            MultiviewOptions,
            generator=names,
            candidates=sizes,
            steps=st.none() | st.integers(0, 2**32 - 1),
            guidance=st.none() | numbers,
            recall=st.booleans(),
            distil_steps=st.integers(0, 2**32 - 1),
        ),
        variants=sizes,
        review_views=st.booleans(),
        memory_mib=st.none() | st.integers(0, 2**32 - 1),
    ),
    st.text(),
)


@given(specs)
def test_a_spec_survives_the_wire(spec):
    message = pb.JobSpec.FromString(convert.spec_to_proto(spec).SerializeToString())
    assert convert.spec_from_proto(message, LIMITS) == (spec, [])


def test_nothing_set_means_the_defaults():
    assert convert.options_from_proto(pb.Options()) == Options()


def test_a_variation_without_more_takes_the_first_mesh_and_the_usual_strength():
    message = pb.JobSpec(variation=pb.VariationSource(job_id="job", prompt="a crate"))
    assert convert.spec_from_proto(message, LIMITS)[0].source == VariationSource(JobMesh("job"), "a crate")
    assert VariationSource(JobMesh("job"), "a crate").strength == convert.DEFAULT_STRENGTH
    with pytest.raises(InvalidInput, match="variation has no object"):
        convert.spec_from_proto(pb.JobSpec(variation=pb.VariationSource(prompt="a crate")), LIMITS)


def test_inline_pictures_become_their_hashes_once_each():
    views = [pb.PosedView(image=pb.Image(png=data)) for data in (b"one", b"two", b"one")]
    spec, inline = convert.spec_from_proto(pb.JobSpec(capture=pb.CaptureSource(views=views)), LIMITS)
    expected = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two", b"one")]
    assert [view.image for view in spec.source.views] == expected
    assert inline == [b"one", b"two"]


def test_an_empty_image_is_named():
    with pytest.raises(InvalidInput, match=r"capture\.views\[1\]\.image is empty"):
        convert.spec_from_proto(
            pb.JobSpec(capture=pb.CaptureSource(views=[pb.PosedView(image=pb.Image(sha256="0" * 64)), pb.PosedView()])),
            LIMITS,
        )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (pb.ImageSource(image=pb.Image(sha256="0" * 64), background=9), "image.background is 9"),
        (
            pb.ImageSource(image=pb.Image(sha256="0" * 64), others=[pb.SidePicture()]),
            r"image.others\[0\].image is empty",
        ),
        (
            pb.ImageSource(
                image=pb.Image(sha256="0" * 64), others=[pb.SidePicture(image=pb.Image(sha256="1" * 64), side=9)]
            ),
            r"image.others\[0\].side is 9; this version knows \['front', 'right', 'back', 'left'\]",
        ),
    ],
)
def test_pictures_of_a_newer_client_are_named(source, said):
    with pytest.raises(InvalidInput, match=said):
        convert.spec_from_proto(pb.JobSpec(image=source), LIMITS)


def test_every_state_and_stage_has_its_word_on_the_wire():
    job = JobRecord("id", "request", "digest", JobSpec(TextSource("x")), created=1.0)
    for state in JobState:
        message = convert.job_to_proto(dataclasses.replace(job, state=state))
        assert pb.JobState.Name(message.state) == f"JOB_STATE_{state.name}"
        assert convert.states_from_proto([message.state]) == [state]
    for stage in STAGES:
        assert pb.Stage.Name(convert.progress_to_proto(ProgressRecord(stage)).stage) == f"STAGE_{stage.upper()}"
    assert len(pb.Stage.items()) == len(STAGES) + 1
    assert len(pb.JobState.items()) == len(JobState) + 1


def test_a_job_is_told_with_all_it_has():
    job = JobRecord(
        "id",
        "request",
        "digest",
        JobSpec(TextSource("x")),
        created=1700000000.25,
        state=JobState.FAILED,
        progress=ProgressRecord("mesh", 0.5, 0.25, "half way", 3.0, 2),
        failure=JobFailure("DISK_FULL", "full", {"stage": "mesh"}),
        assets=(AssetRecord("mesh.glb", "mesh", "model/gltf-binary", 12, "0" * 64),),
        started=1700000001.5,
        sequence=9,
        attempt=2,
    )
    message = convert.job_to_proto(job)
    assert message.create_time.ToMicroseconds() == 1700000000250000
    assert message.start_time.ToMicroseconds() == 1700000001500000
    assert not message.HasField("end_time")
    assert (message.error.reason, dict(message.error.metadata)) == ("DISK_FULL", {"stage": "mesh"})
    progress = message.progress
    assert (progress.total_fraction, progress.stage_fraction, progress.seconds_left) == (0.5, 0.25, 3.0)
    assert (progress.message, progress.queue_position) == ("half way", 2)
    assert convert.asset_id_from_proto(message.assets[0].id) == ("id", "mesh.glb")
    assert (message.last_sequence, message.attempt) == (9, 2)


def test_events_keep_their_number_and_kind():
    kinds = {
        "log": LogText("text"),
        "preview": PreviewImage(b"x", "image/png", 1, 4, 2),
        "progress": ProgressRecord("mesh", 0.5),
        "job": JobRecord("id", "request", "digest", JobSpec(TextSource("x")), created=1.0),
    }
    for kind, payload in kinds.items():
        message = convert.event_to_proto(Event(7, payload))
        assert (message.sequence, message.WhichOneof("event")) == (7, kind)
        if kind == "preview":
            assert (message.preview.index, message.preview.count, message.preview.variant) == (1, 4, 2)
    assert convert.heartbeat_to_proto(3).WhichOneof("event") == "heartbeat"


def test_limits_are_told_as_they_are():
    message = convert.limits_to_proto(LIMITS)
    assert {field.name: value for field, value in message.ListFields()} == {
        name: getattr(LIMITS, name) for name in pb.Limits.DESCRIPTOR.fields_by_name
    }


def test_a_pipeline_that_is_being_loaded_is_no_problem():
    answer = convert.description_to_proto(None, Limits())
    assert not answer.ready and answer.not_ready_reason == ""
    answer = convert.description_to_proto(Description(problem="torch is missing"), Limits())
    assert not answer.ready and answer.not_ready_reason == "torch is missing"
