"""The client against a small server in this process that misbehaves on demand, as a real one will not."""

import hashlib
import threading
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest

from blender_addon.client.generation_client import connect
from blender_addon.client.rpc import generation_pb2 as pb
from blender_addon.client.rpc import generation_pb2_grpc
from blender_addon.core.axes import Z_UP_TO_Y_UP
from blender_addon.core.backend import Endpoint
from blender_addon.core.cameras import orbit_rig
from blender_addon.core.errors import AddonError
from blender_addon.core.jobs import AssetInfo, PreviewPicture
from blender_addon.core.request import (
    CapturedView,
    ImageInput,
    JobOptions,
    JobRequest,
    SidePicture,
    Target,
    TextInput,
    VariationInput,
)
from blender_addon.core.server_info import GeneratorInfo, KnownWord, ServerInfo, WordsFound

CONTENT = np.random.default_rng(0).bytes(2_500_000)
ASSET = AssetInfo("a1", "model/gltf-binary", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Servicer(generation_pb2_grpc.GenerationServiceServicer):
    """Keeps what it is sent, and can be told to break off, to lie, or to refuse."""

    def __init__(self):
        self.blobs, self.partial, self.tokens, self.offsets = {}, {}, set(), []
        self.created = None
        self.break_after = None
        self.content = CONTENT
        self.refusal = None
        self.events = []

    def _enter(self, context):
        self.tokens.update(value for key, value in context.invocation_metadata() if key == "authorization")
        if self.refusal is not None:
            code, reason = self.refusal
            if reason:
                context.set_trailing_metadata((("mvgamba-reason", reason),))
            context.abort(code, "so it is")

    def FindBlobs(self, request, context):
        self._enter(context)
        return pb.FindBlobsResponse(
            blobs=[
                pb.BlobStatus(sha256=d, complete=d in self.blobs, received_bytes=len(self.partial.get(d, b"")))
                for d in request.sha256
            ]
        )

    def UploadBlob(self, requests, context):
        self._enter(context)
        header = next(requests).header
        content = self.partial.get(header.sha256, b"")[: header.offset] + b"".join(r.chunk for r in requests)
        self.offsets.append(header.offset)
        assert hashlib.sha256(content).hexdigest() == header.sha256 and len(content) == header.size_bytes
        self.blobs[header.sha256] = content
        return pb.UploadBlobResponse(sha256=header.sha256, size_bytes=len(content))

    def CreateJob(self, request, context):
        self._enter(context)
        self.created = request
        return pb.CreateJobResponse(job=pb.Job(id="j1"))

    def WatchJob(self, request, context):
        self._enter(context)
        yield from self.events

    def LookUpWords(self, request, context):
        self._enter(context)
        self.asked = request
        unknown = [
            pb.UnknownWord(word="barel", nearest=["barrel", "bare"]),
            pb.UnknownWord(word="cat", taken_for="dog", is_rough=True),
        ]
        listed = [pb.KnownWord(word="barrel", count=7)] if request.list_all else []
        return pb.LookUpWordsResponse(known=["red"], unknown=unknown, suggestions=["barrel"], vocabulary=listed)

    def DescribeServer(self, request, context):
        self._enter(context)
        models = [
            pb.Model(id="hull", kind="reconstructor", available=True),
            pb.Model(id="starter", kind="multiview", why_not="no weights", sources=["text"]),
        ]
        return pb.DescribeServerResponse(ready=request.wait_until_ready, sources=["capture"], models=models)

    def DownloadAsset(self, request, context):
        self._enter(context)
        self.offsets.append(request.offset)
        for number, start in enumerate(range(request.offset, len(self.content), 1 << 20)):
            if self.break_after is not None and number >= self.break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            chunk = self.content[start : start + (1 << 20)]
            yield pb.DownloadAssetResponse(offset=start, chunk=chunk, size_bytes=len(self.content))


@pytest.fixture
def servicer():
    return Servicer()


@pytest.fixture
def client(servicer):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = connect(Endpoint(f"127.0.0.1:{port}", "secret"))
    yield client
    client.close()
    server.stop(None).wait()


@pytest.fixture
def request_(tmp_path):
    views = []
    for k, camera in enumerate(orbit_rig(np.array([1.0, 2.0, 3.0]), 0.5, num_views=4)):
        image, depth = tmp_path / f"{k}.png", tmp_path / f"{k}.npy"
        image.write_bytes(bytes([k]) * 1_500_000)
        np.save(depth, np.full((4, 6), k, dtype=np.float32))
        views.append(CapturedView(image, camera.c2w, camera.fovy, 6, 4, depth))
    return JobRequest("barrel", tuple(views), JobOptions("high", 5, False, 900, 256), Target("Scene", "", (), ()))


def never():
    return False


def test_a_request_arrives_whole(client, servicer, request_):
    assert client.create(request_, should_stop=never) == "j1"
    spec = servicer.created.spec
    assert servicer.created.request_id == request_.request_id and spec.label == "barrel"
    assert spec.options == pb.Options(
        quality=pb.QUALITY_HIGH,
        refine=False,
        target_faces=900,
        texture_size=256,
        seed=5,
        device="auto",
        variants=1,
        multiview=pb.MultiviewOptions(),
    )
    for view, message in zip(request_.views, spec.capture.views, strict=True):
        assert servicer.blobs[message.image.sha256] == view.image_path.read_bytes()
        assert servicer.blobs[message.depth.sha256] == view.depth_path.read_bytes()
        assert (message.camera.width, message.camera.height) == (6, 4)
        assert (message.camera.cx, message.camera.cy) == (3.0, 2.0)
        sent = np.array(message.camera.camera_to_world).reshape(4, 4)
        np.testing.assert_array_equal(sent, Z_UP_TO_Y_UP @ view.c2w)
        assert message.camera.fy == pytest.approx(2 / np.tan(0.5 * view.fovy))
    assert servicer.tokens == {"Bearer secret"}


TARGET = Target("Scene", "", (), ())


def sent(client, servicer, source, views=(), **options) -> pb.JobSpec:
    request = JobRequest("barrel", tuple(views), JobOptions(**options), TARGET, source=source)
    client.create(request, should_stop=never)
    return servicer.created.spec


def test_words_arrive_with_all_that_was_set(client, servicer):
    options = {
        "variants": 3,
        "review_views": True,
        "generator": "starter",
        "candidates": 2,
        "steps": 7,
        "guidance": 0.0,
        "device": "cuda:1",
        "memory_mib": 2048,
    }
    spec = sent(client, servicer, TextInput("a bärrel", "rust"), **options)
    assert spec.text == pb.TextSource(prompt="a bärrel", negative_prompt="rust")
    assert (spec.options.variants, spec.options.review_views) == (3, True)
    assert (spec.options.device, spec.options.memory_mib) == ("cuda:1", 2048)
    assert not sent(client, servicer, TextInput("a barrel")).options.HasField("memory_mib")
    expected = pb.MultiviewOptions(generator="starter", candidates=2, steps=7, guidance=0.0)
    assert spec.options.multiview == expected and expected.HasField("guidance")
    assert servicer.blobs == {}


def test_a_picture_is_uploaded_and_keeps_its_words(client, servicer, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"picture")
    spec = sent(client, servicer, ImageInput(path, "a barrel", 0.25))
    assert servicer.blobs[spec.image.image.sha256] == b"picture"
    assert (spec.image.prompt, spec.image.elevation) == ("a barrel", 0.25)
    assert not sent(client, servicer, ImageInput(path)).image.HasField("elevation")


def test_pictures_of_several_sides_are_uploaded_with_what_they_show(client, servicer, tmp_path):
    paths = {side: tmp_path / f"{side}.png" for side in ("front", "back", "left")}
    for side, path in paths.items():
        path.write_bytes(side.encode())
    others = tuple(SidePicture(paths[side], side) for side in ("back", "left"))
    source = ImageInput(paths["front"], others=others, background="keep_alpha")
    spec = sent(client, servicer, source, recall=False, distil_steps=150)
    assert servicer.blobs[spec.image.image.sha256] == b"front"
    seen = [(servicer.blobs[other.image.sha256], other.side) for other in spec.image.others]
    assert seen == [(b"back", pb.SIDE_BACK), (b"left", pb.SIDE_LEFT)]
    assert spec.image.background == pb.BACKGROUND_KEEP_ALPHA
    assert spec.options.multiview == pb.MultiviewOptions(recall=False, distil_steps=150)


def test_a_variation_is_of_the_views_or_of_an_earlier_job(client, servicer, request_):
    spec = sent(client, servicer, VariationInput("of stone", "moss", 0.0), request_.views)
    assert (spec.variation.prompt, spec.variation.negative_prompt, spec.variation.strength) == ("of stone", "moss", 0.0)
    assert spec.variation.HasField("strength") and not spec.variation.job_id
    assert [v.image.sha256 in servicer.blobs for v in spec.variation.capture.views] == 4 * [True]
    spec = sent(client, servicer, VariationInput("of stone", job_id="j1", asset_name="mesh_2.glb"))
    assert (spec.variation.job_id, spec.variation.asset_name) == ("j1", "mesh_2.glb")
    assert spec.variation.WhichOneof("object") == "job_id"


def test_the_server_says_which_words_and_sources_it_knows(client, servicer):
    found = client.look_up_words("a red barel", prefix="bar", max_suggestions=5, generator="starter")
    assert found == WordsFound(
        ("red",), {"barel": ("barrel", "bare")}, ("barrel",), (KnownWord("cat", 0, "dog", is_rough=True),)
    )
    assert servicer.asked == pb.LookUpWordsRequest(
        prompt="a red barel", prefix="bar", max_suggestions=5, generator="starter"
    )
    assert client.look_up_words(list_all=True).vocabulary == (KnownWord("barrel", 7),)
    generator = GeneratorInfo("starter", False, "no weights", ("text",))
    assert client.describe(wait_until_ready=True) == ServerInfo(True, ("capture",), (generator,))
    assert not client.describe().is_ready


def test_what_the_server_has_is_not_sent_again(client, servicer, request_):
    client.create(request_, should_stop=never)
    servicer.offsets.clear()
    client.create(request_, should_stop=never)
    assert servicer.offsets == []


def test_an_upload_goes_on_where_it_was_broken_off(client, servicer, request_):
    content = request_.views[0].image_path.read_bytes()
    servicer.partial[hashlib.sha256(content).hexdigest()] = content[:1_200_000]
    client.create(request_, should_stop=never)
    assert 1_200_000 in servicer.offsets


def test_a_view_without_depth_has_no_depth_on_the_wire(client, servicer, request_, tmp_path):
    import dataclasses

    views = tuple(dataclasses.replace(view, depth_path=None) for view in request_.views)
    client.create(dataclasses.replace(request_, views=views), should_stop=never)
    assert not any(view.HasField("depth") for view in servicer.created.spec.capture.views)


def test_a_download_is_whole_or_not_there(client, servicer, tmp_path):
    path, received = tmp_path / "mesh.glb", []
    client.download(ASSET, path, report=received.append, should_stop=never)
    assert path.read_bytes() == CONTENT and received == [1 << 20, 2 << 20, len(CONTENT)]
    assert [p.name for p in tmp_path.iterdir()] == ["mesh.glb"]


def test_a_download_goes_on_where_it_was_broken_off(client, servicer, tmp_path):
    path = tmp_path / "mesh.glb"
    servicer.break_after = 1
    with pytest.raises(AddonError) as caught:
        client.download(ASSET, path, report=lambda _: None, should_stop=never)
    assert caught.value.retryable and not path.exists()
    servicer.break_after = None
    client.download(ASSET, path, report=lambda _: None, should_stop=never)
    assert path.read_bytes() == CONTENT and servicer.offsets == [0, 1 << 20]


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c[:-1] + b"x", lambda c: c + b"more"])
def test_a_damaged_download_is_refused_and_removed(client, servicer, tmp_path, change):
    servicer.content = change(CONTENT)
    with pytest.raises(AddonError) as caught:
        client.download(ASSET, tmp_path / "mesh.glb", report=lambda _: None, should_stop=never)
    assert caught.value.reason == "DOWNLOAD_CORRUPT" and list(tmp_path.iterdir()) == []


def test_a_download_can_be_stopped(client, tmp_path):
    with pytest.raises(AddonError, match="CANCELLED"):
        client.download(ASSET, tmp_path / "mesh.glb", report=lambda _: None, should_stop=lambda: True)
    assert not (tmp_path / "mesh.glb").exists()


@pytest.mark.parametrize(
    ("code", "named", "reason", "retryable"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", "QUEUE_FULL", False),
        (grpc.StatusCode.UNAUTHENTICATED, "", "UNAUTHENTICATED", False),
        (grpc.StatusCode.UNAVAILABLE, "", "CONNECTION_LOST", True),
        (grpc.StatusCode.UNIMPLEMENTED, "", "VERSION_MISMATCH", False),
        (grpc.StatusCode.UNKNOWN, "", "INTERNAL", False),
    ],
)
def test_a_refusal_keeps_its_reason(client, servicer, request_, code, named, reason, retryable):
    servicer.refusal = (code, named)
    with pytest.raises(AddonError) as caught:
        client.create(request_, should_stop=never)
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


def test_a_server_that_is_not_there_is_worth_another_try(request_):
    client = connect(Endpoint("127.0.0.1:1", "secret"))
    with pytest.raises(AddonError) as caught:
        client.create(request_, should_stop=never)
    client.close()
    assert caught.value.reason == "CONNECTION_LOST" and caught.value.retryable


def test_closing_ends_a_watch_in_another_thread(client, servicer):
    endless = threading.Event()

    def events():
        yield pb.WatchJobResponse(sequence=1, heartbeat=pb.Heartbeat())
        endless.wait(10)

    servicer.events = events()
    seen, ended = [], []

    def watch():
        try:
            for update in client.watch("j1", after_sequence=0):
                seen.append(update)
        except AddonError as error:
            ended.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    while not seen:
        thread.join(0.01)
    client.close()
    thread.join(5)
    endless.set()
    assert not thread.is_alive() and ended[0].retryable


def test_a_watch_says_what_happens(client, servicer):
    job = pb.Job(id="j1", state=pb.JOB_STATE_FAILED, error=pb.JobError(reason="DISK_FULL", message="no room"))
    servicer.events = [
        pb.WatchJobResponse(sequence=1, job=pb.Job(id="j1", state=pb.JOB_STATE_QUEUED)),
        pb.WatchJobResponse(
            sequence=2, progress=pb.Progress(stage=pb.STAGE_REFINE, total_fraction=0.5, seconds_left=3.0)
        ),
        pb.WatchJobResponse(sequence=3, log=pb.LogLine(text="view 2 was ignored")),
        pb.WatchJobResponse(
            sequence=3, preview=pb.Preview(data=b"x", media_type="image/png", index=1, count=5, variant=2)
        ),
        pb.WatchJobResponse(sequence=3, heartbeat=pb.Heartbeat()),
        pb.WatchJobResponse(sequence=4, job=job),
    ]
    first, progress, log, preview, heartbeat, last = client.watch("j1", after_sequence=0)
    assert first.state == "queued" and first.reason is None
    assert (progress.stage, progress.fraction, progress.seconds_left) == ("refine", 0.5, 3.0)
    assert log.log_line == "view 2 was ignored" and heartbeat.state is None
    assert preview.preview == PreviewPicture(b"x", "image/png", 1, 5, 2) and heartbeat.preview is None
    assert (last.state, last.reason, last.error_message, last.sequence) == ("failed", "DISK_FULL", "no room", 4)


def test_every_stage_and_state_of_the_contract_is_known():
    from blender_addon.client import convert
    from blender_addon.core import jobs, request

    assert set(convert._STAGES) == set(pb.Stage.values()) - {pb.STAGE_UNSPECIFIED}
    assert set(convert._STAGES.values()) == set(jobs.STAGE_LABELS)
    assert set(convert._STATES) == set(pb.JobState.values()) - {pb.JOB_STATE_UNSPECIFIED}
    assert set(convert._SIDES) == set(request.PICTURE_SIDES)
    assert set(convert._SIDES.values()) == set(pb.Side.values()) - {pb.SIDE_UNSPECIFIED}
    assert set(convert._BACKGROUNDS) == set(request.BACKGROUNDS)
    assert set(convert._BACKGROUNDS.values()) == set(pb.Background.values()) - {pb.BACKGROUND_UNSPECIFIED}
    assert set(convert._KINDS) == set(pb.AssetKind.values()) - {pb.ASSET_KIND_UNSPECIFIED}
    assert set(convert._QUALITIES.values()) == set(pb.Quality.values()) - {pb.QUALITY_UNSPECIFIED}


def test_the_copy_of_the_messages_is_that_of_the_contract():
    root = Path(__file__).resolve().parents[2]
    for name in ("generation_pb2.py", "generation_pb2.pyi", "generation_pb2_grpc.py"):
        copy = root / "blender_addon" / "client" / "rpc" / name
        assert copy.read_text() == (root / "protos" / "mvgamba_rpc" / "v1" / name).read_text()
