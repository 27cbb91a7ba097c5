"""Uploads and downloads: whole, broken off, resumed, false."""

import hashlib
import os
import threading

import grpc
import pytest

from mvgamba_rpc.v1 import generation_pb2 as pb


def find(service, *contents: bytes) -> list[pb.BlobStatus]:
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    return list(service.call("FindBlobs", pb.FindBlobsRequest(sha256=names)).blobs)


def test_an_upload_is_found_by_its_content(service):
    data = os.urandom(3_000_000)
    assert [(b.complete, b.received_bytes) for b in find(service, data)] == [(False, 0)]
    answer = service.upload(data)
    assert (answer.sha256, answer.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [(b.complete, b.received_bytes) for b in find(service, data)] == [(True, len(data))]
    service.upload(data)  # once more does no harm


def test_an_empty_upload_is_a_blob_too(service):
    service.upload(b"")
    assert find(service, b"")[0].complete


def test_an_upload_of_other_content_is_refused_and_forgotten(service, refused):
    promised = hashlib.sha256(b"promised").hexdigest()
    refusal = refused(service.upload, b"delivere", sha256=promised)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "BLOB_MISMATCH")
    assert [(b.complete, b.received_bytes) for b in find(service, b"promised")] == [(False, 0)]
    service.upload(b"promised")


@pytest.mark.parametrize("size", [3, 2_000_000])
def test_an_upload_of_another_length_is_refused(service, refused, size):
    refusal = refused(service.upload, os.urandom(1_500_000), size=size)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "BLOB_MISMATCH")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [pb.UploadBlobRequest(chunk=b"x")],
        [pb.UploadBlobRequest(header=pb.BlobHeader(sha256="../../etc/passwd", size_bytes=1))],
        [pb.UploadBlobRequest(header=pb.BlobHeader(sha256="0" * 64, size_bytes=1 << 40))],
        [pb.UploadBlobRequest(header=pb.BlobHeader(sha256="0" * 64, size_bytes=1, offset=2))],
        [pb.UploadBlobRequest(header=pb.BlobHeader(sha256="0" * 64, size_bytes=1))] * 2,
    ],
    ids=["nothing", "no header", "no hash", "huge", "behind the end", "two headers"],
)
def test_an_upload_out_of_order_is_refused(service, refused, messages):
    refusal = refused(service.call, "UploadBlob", iter(messages))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")


def test_an_upload_that_broke_off_goes_on_where_it_stopped(service, eventually):
    data = os.urandom(3 << 20)
    sha256 = hashlib.sha256(data).hexdigest()
    begun = threading.Event()

    def messages():
        yield pb.UploadBlobRequest(header=pb.BlobHeader(sha256=sha256, size_bytes=len(data)))
        yield pb.UploadBlobRequest(chunk=data[: 1 << 20])
        begun.set()
        threading.Event().wait(5)

    call = service.stub.UploadBlob.future(messages(), metadata=service.auth, timeout=30)
    assert begun.wait(10)
    parts = service.data_dir / "blobs/parts"
    eventually(lambda: any(p.stat().st_size > 0 for p in parts.glob(f"{sha256}.*")))
    call.cancel()
    eventually(lambda: find(service, data)[0].received_bytes > 0)
    offset = find(service, data)[0].received_bytes
    assert 0 < offset <= 1 << 20
    service.upload(data, offset=offset)
    assert find(service, data)[0].complete


def test_an_upload_cannot_go_on_where_nothing_is(service, refused):
    assert refused(service.upload, os.urandom(100), offset=50).reason == "BLOB_MISMATCH"


def test_depth_and_image_are_taken_from_uploads(service, refused, capture):
    spec = pb.JobSpec(capture=capture(size=16))
    depth = bytes(4 * 16 * 16)
    for view in spec.capture.views:
        service.upload(view.image.png)
        view.image.sha256 = hashlib.sha256(view.image.png).hexdigest()
        view.depth.sha256 = hashlib.sha256(depth).hexdigest()
    refusal = refused(service.call, "CreateJob", pb.CreateJobRequest(spec=spec))
    assert (refusal.reason, "views[0].depth" in refusal.message) == ("BLOB_MISSING", True)
    service.upload(depth)
    job = service.call("CreateJob", pb.CreateJobRequest(spec=spec)).job
    assert service.finish(job.id).state == pb.JOB_STATE_SUCCEEDED
    wrong = os.urandom(100)
    service.upload(wrong)
    spec.capture.views[1].depth.sha256 = hashlib.sha256(wrong).hexdigest()
    refusal = refused(service.call, "CreateJob", pb.CreateJobRequest(spec=spec))
    assert (refusal.reason, "views[1].depth" in refusal.message) == ("INVALID_IMAGE", True)


def test_an_image_of_another_size_than_its_camera_is_refused(service, refused, capture):
    spec = pb.JobSpec(capture=capture(size=16))
    spec.capture.views[1].camera.width = 17
    refusal = refused(service.call, "CreateJob", pb.CreateJobRequest(spec=spec))
    assert (refusal.reason, "views[1]" in refusal.message) == ("INVALID_CAMERAS", True)
    for view in spec.capture.views:
        view.camera.width = 17
    refusal = refused(service.call, "CreateJob", pb.CreateJobRequest(spec=spec))
    assert (refusal.reason, "views[0].image" in refusal.message) == ("INVALID_IMAGE", True)


def test_a_download_goes_on_at_any_byte(service, refused):
    asset = service.finish(service.create("a barrel").id).assets[0]
    whole = service.download(asset.id)
    assert (len(whole), hashlib.sha256(whole).hexdigest()) == (asset.size_bytes, asset.sha256)
    assert whole[:4] == b"glTF"
    for offset in (1, 1000, len(whole) - 1, len(whole)):
        assert service.download(asset.id, offset=offset) == whole[offset:]
    messages = list(service.call("DownloadAsset", pb.DownloadAssetRequest(asset_id=asset.id, offset=10)))
    assert (messages[0].offset, messages[0].size_bytes, messages[0].sha256) == (10, len(whole), asset.sha256)
    refusal = refused(service.download, asset.id, offset=len(whole) + 1)
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    for unknown in (asset.id + "x", asset.id.partition("/")[0], asset.id.partition("/")[0] + "/../jobs.sqlite3"):
        assert refused(service.download, unknown).reason == "ASSET_UNKNOWN"
