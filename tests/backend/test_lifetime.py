"""How the service starts, whom it serves, and when it leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import grpc
import pytest

from mvgamba_backend.config import is_loopback
from mvgamba_backend.servicer import is_local
from mvgamba_rpc.v1 import generation_pb2 as pb
from mvgamba_rpc.v1 import generation_pb2_grpc

COMMAND = [sys.executable, "-m", "mvgamba_backend", "serve", "--pipeline", "fake"]


def refusal_of(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_the_first_line_says_where_it_listens_within_seconds(start_service):
    begin = time.monotonic()
    service = start_service()
    assert time.monotonic() - begin < 5  # 0.4 s on an idle machine; torch alone would take longer than that
    hello = service.hello
    assert (hello["pid"], hello["api"], hello["tls"]) == (service.process.pid, ["v1"], False)
    assert hello["address"] == f"127.0.0.1:{hello['port']}"
    assert "token" not in hello


def test_the_service_itself_never_loads_torch(env):
    code = "import sys, mvgamba_backend.server; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=30).returncode == 0


def test_no_line_of_the_log_holds_a_prompt_or_the_token(start_service):
    service = start_service()
    service.finish(service.create("unmentionable").id)
    service.end()
    text = service.log_path.read_text()
    assert "accepted" in text
    assert "unmentionable" not in text
    assert service.auth[0][1].removeprefix("Bearer ") not in text


def test_workers_do_not_inherit_the_token(service, eventually):
    service.finish(service.create("a barrel").id)
    for worker in service.workers():
        assert "MVGAMBA_TOKEN" not in worker.environ()


def test_closing_stdin_ends_it(start_service, eventually):
    service = start_service("--die-with-stdin")
    service.finish(service.create("a barrel").id)
    workers = service.workers()
    service.process.stdin.close()
    assert service.process.wait(10) == 0
    eventually(lambda: not any(w.is_running() for w in workers))


def test_the_end_of_the_parent_ends_it(env, tmp_path, eventually):
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    command = [*COMMAND, "--data-dir", str(tmp_path / "data"), "--parent-pid", str(parent.pid)]
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log)
    with service.stdout as lines:
        assert json.loads(lines.readline())["port"]
        parent.kill()
        parent.wait()
        assert service.wait(10) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start_service, number):
    service = start_service()
    service.process.send_signal(number)
    assert service.process.wait(10) == 0


def test_shutdown_ends_it(start_service):
    service = start_service()
    service.call("Shutdown", pb.ShutdownRequest())
    assert service.process.wait(10) == 0


def test_without_a_token_one_is_drawn_and_told(env, tmp_path):
    del env["MVGAMBA_TOKEN"]
    command = [*COMMAND, "--data-dir", str(tmp_path / "data"), "--die-with-stdin"]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as p:
        hello = json.loads(p.stdout.readline())
        call_with(hello["address"], hello["token"])
        p.stdin.close()
    assert p.returncode == 0


def test_a_token_may_come_over_stdin(env, tmp_path):
    del env["MVGAMBA_TOKEN"]
    command = [*COMMAND, "--data-dir", str(tmp_path / "data"), "--token-stdin", "--die-with-stdin"]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as p:
        p.stdin.write(b"from-stdin\n")
        p.stdin.flush()
        hello = json.loads(p.stdout.readline())
        assert "token" not in hello
        call_with(hello["address"], "from-stdin")
        p.stdin.close()
    assert p.returncode == 0


def call_with(address: str, token: str, credentials: grpc.ChannelCredentials | None = None) -> None:
    make = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with make as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        stub.ListJobs(pb.ListJobsRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=20)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("render-box.local", False),
        ("localhost.example.org", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "render-box"])
def test_other_machines_are_not_served_without_encryption(env, tmp_path, host):
    said = refusal_of(env, "--data-dir", str(tmp_path / "data"), "--host", host)
    assert "--tls-cert" in said
    assert "--tls-key" in said


def test_a_half_or_false_configuration_is_refused_in_a_sentence(env, tmp_path):
    data = ("--data-dir", str(tmp_path / "data"))
    assert "go together" in refusal_of(env, *data, "--tls-cert", str(tmp_path))
    missing = str(tmp_path / "none.pem")
    assert "is not a file" in refusal_of(env, *data, "--tls-cert", missing, "--tls-key", missing)
    assert "--queue-limit" in refusal_of(env, *data, "--queue-limit", "0")
    assert "--port" in refusal_of(env, *data, "--port", "70000")
    assert "token is empty" in refusal_of(env | {"MVGAMBA_TOKEN": ""}, *data)
    (tmp_path / "file").write_text("")
    assert "cannot be used" in refusal_of(env, "--data-dir", str(tmp_path / "file"))


def test_a_port_or_folder_in_use_is_refused_in_a_sentence(start_service, env, tmp_path):
    service = start_service()
    assert "Another service" in refusal_of(env, "--data-dir", str(service.data_dir))
    port = str(service.hello["port"])
    assert "cannot be had" in refusal_of(env, "--data-dir", str(tmp_path / "other"), "--port", port)


def test_services_of_several_parents_share_a_folder_side_by_side(start_service):
    first = start_service("--die-with-stdin")
    second = start_service("--die-with-stdin")
    assert second.hello["data_dir"] == os.path.join(first.hello["data_dir"], "instance-2")
    assert second.finish(second.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED
    assert not first.call("ListJobs", pb.ListJobsRequest()).jobs


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_encryption_works_and_the_token_still_counts(env, tmp_path, refused):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--host", "0.0.0.0"]
    command = [*COMMAND, "--data-dir", str(tmp_path / "data"), "--die-with-stdin", *tls]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as p:
        hello = json.loads(p.stdout.readline())
        assert hello["tls"]
        address = f"localhost:{hello['port']}"
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        call_with(address, env["MVGAMBA_TOKEN"], credentials)
        assert refused(call_with, address, "wrong", credentials).code == grpc.StatusCode.UNAUTHENTICATED
        assert refused(call_with, address, env["MVGAMBA_TOKEN"]).code == grpc.StatusCode.UNAVAILABLE
        p.stdin.close()
    assert p.returncode == 0


def test_a_log_file_takes_what_workers_say_as_well(start_service, tmp_path):
    service = start_service("--log-file", str(tmp_path / "logs" / "backend.log"))
    job = service.finish(service.create("#crash").id)
    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "INTERNAL")
    number = re.search(r"Error ([0-9A-F]{4})", job.error.message).group(1)
    assert service.finish(service.create("a barrel").id).state == pb.JOB_STATE_SUCCEEDED
    assert service.end() == 0
    text = (tmp_path / "logs" / "backend.log").read_text()
    assert f"error {number}\nTraceback" in text
    assert "The prompt asked for a fault." in text


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:50000", True),
        ("ipv6:%5B::1%5D:50000", True),
        ("unix:/run/socket", True),
        ("ipv4:192.168.1.5:50000", False),
        ("ipv6:%5B2001:db8::1%5D:50000", False),
        ("nonsense", False),
    ],
)
def test_only_this_machine_may_end_the_service(peer, local):
    assert is_local(peer) is local
