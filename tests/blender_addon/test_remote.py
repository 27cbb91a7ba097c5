"""Backends on other machines: real services on this one, with certificates that are made here."""

import json
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from blender_addon.client.generation_client import connect
from blender_addon.client.remote import RemoteConnection, probe
from blender_addon.core.backend import Endpoint
from blender_addon.core.errors import AddonError
from blender_addon.core.remote import (
    RemoteBackend,
    is_loopback,
    parse_address,
    remote_backend,
)
from tests.blender_addon import extension

TOKEN = "right-token"

needs_backend = pytest.mark.skipif(
    extension.backend_command() is None, reason="no mvgamba-backend: set MVGAMBA_BACKEND"
)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")


def make_certificate(folder, name, *, names="DNS:localhost,IP:127.0.0.1"):
    """A certificate that is its own authority, with its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    ]
    more = ["-addext", f"subjectAltName={names}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *more], check=True, capture_output=True, timeout=30)
    return cert, key


def start(folder, *arguments):
    """A service of its own with the fake pipeline; its process and port."""
    process = subprocess.Popen(
        [
            *extension.backend_command(),
            *("serve", "--data-dir", str(folder), "--pipeline", "fake", "--die-with-stdin"),
            *map(str, arguments),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MVGAMBA_TOKEN": TOKEN},
        text=True,
    )
    return process, json.loads(process.stdout.readline())["port"]


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """One service with TLS and one without."""
    folder = tmp_path_factory.mktemp("remote")
    cert, key = make_certificate(folder, "right")
    other, _ = make_certificate(folder, "wrong")
    elsewhere, elsewhere_key = make_certificate(folder, "elsewhere", names="DNS:elsewhere.invalid")
    started = [
        start(folder / "tls", "--tls-cert", cert, "--tls-key", key),
        start(folder / "plain"),
        start(folder / "named", "--tls-cert", elsewhere, "--tls-key", elsewhere_key),
    ]
    (_, tls), (_, plain), (_, named) = started
    yield SimpleNamespace(tls=tls, plain=plain, named=named, cert=cert, other=other, elsewhere=elsewhere)
    for process, _ in started:
        process.stdin.close()
        process.stdout.close()
        process.wait(20)


def refused(remote) -> AddonError:
    with pytest.raises(AddonError) as caught:
        probe(remote)
    return caught.value


@needs_backend
@needs_openssl
class TestService:
    def test_the_right_authority_and_token_are_let_in(self, services):
        info = probe(RemoteBackend("127.0.0.1", services.tls, TOKEN, True, services.cert))
        assert info.version and "v1" in info.api
        assert probe(RemoteBackend("localhost", services.tls, TOKEN, True, services.cert)).api == info.api

    def test_a_whole_call_goes_over_tls(self, services):
        connection = RemoteConnection(RemoteBackend("127.0.0.1", services.tls, TOKEN, True, services.cert))
        client = connect(connection.ensure())
        assert client.describe(wait_until_ready=True).is_ready
        assert client.look_up_words("a barrel").known
        client.close()

    @pytest.mark.parametrize("trusted", ["other", None])
    def test_a_certificate_of_somebody_else_is_refused(self, services, trusted):
        ca = getattr(services, trusted) if trusted else None
        error = refused(RemoteBackend("127.0.0.1", services.tls, TOKEN, True, ca))
        assert error.reason == "TLS_ERROR" and "trusted authority" in error.message and not error.retryable

    def test_a_host_of_two_addresses_is_told_by_the_one_that_answers(self, services):
        """localhost is ::1 as well; gRPC may tell of that one, where nothing listens."""
        from blender_addon.client import remote

        for port, ca, words in (
            (services.tls, services.other, "trusted authority"),
            (services.named, services.elsewhere, "another name"),
            (services.plain, services.cert, "does not speak TLS"),
        ):
            box = RemoteBackend("localhost", port, TOKEN, True, ca)
            assert words in remote._handshake_problem(box)
            assert {refused(box).reason for _ in range(12)} == {"TLS_ERROR"}
        assert remote._handshake_problem(RemoteBackend("localhost", services.tls, TOKEN, True, services.cert)) == ""

    def test_a_certificate_for_another_name_is_refused(self, services):
        error = refused(RemoteBackend("127.0.0.1", services.named, TOKEN, True, services.elsewhere))
        assert error.reason == "TLS_ERROR" and "another name" in error.message

    @pytest.mark.parametrize("content", [b"garbage", b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"])
    def test_a_file_that_is_no_certificate_is_said_to_be_none(self, services, tmp_path, content):
        (tmp_path / "ca.pem").write_bytes(content)
        assert refused(RemoteBackend("127.0.0.1", services.tls, TOKEN, True, tmp_path / "ca.pem")).reason == "TLS_ERROR"

    def test_a_missing_certificate_file_is_named(self, services, tmp_path):
        error = refused(RemoteBackend("127.0.0.1", services.tls, TOKEN, True, tmp_path / "none.pem"))
        assert error.reason == "TLS_ERROR" and "none.pem" in error.message

    def test_a_wrong_token_is_refused(self, services):
        for port, tls, ca in ((services.tls, True, services.cert), (services.plain, False, None)):
            assert refused(RemoteBackend("127.0.0.1", port, "wrong", tls, ca)).reason == "UNAUTHENTICATED"

    def test_plain_against_tls_and_the_other_way_round_are_told_apart(self, services):
        error = refused(RemoteBackend("127.0.0.1", services.tls, TOKEN, False))
        assert error.reason == "TLS_ERROR" and "wants TLS" in error.message
        error = refused(RemoteBackend("127.0.0.1", services.plain, TOKEN, True, services.cert))
        assert error.reason == "TLS_ERROR" and "does not speak TLS" in error.message

    def test_a_newer_extension_asks_for_an_update(self, services, monkeypatch):
        from blender_addon.core import server_info

        monkeypatch.setattr(server_info, "OLDEST_BACKEND", "99.0")
        error = refused(RemoteBackend("127.0.0.1", services.plain, TOKEN, False))
        assert error.reason == "VERSION_MISMATCH" and "99.0" in error.message

    def test_a_job_over_a_broken_certificate_fails_and_does_not_wait(self, services):
        client = connect(Endpoint(f"127.0.0.1:{services.tls}", TOKEN, True, services.other))
        with pytest.raises(AddonError) as caught:
            client.describe()
        client.close()
        assert caught.value.reason == "TLS_ERROR" and not caught.value.retryable


def test_a_host_without_a_backend_is_worth_another_try():
    error = refused(RemoteBackend("127.0.0.1", 1, TOKEN, False))
    assert error.reason == "UNREACHABLE" and error.retryable and "127.0.0.1:1" in error.message


def test_an_unknown_name_is_said_to_be_unknown():
    error = refused(RemoteBackend("no-such-host.invalid", 1, TOKEN, True))
    assert error.reason == "UNREACHABLE" and "no-such-host.invalid" in error.message


def test_a_program_that_says_nothing_is_not_waited_for(monkeypatch):
    import socket

    from blender_addon.client import remote

    monkeypatch.setattr(remote, "PROBE_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(RemoteBackend("127.0.0.1", silent.getsockname()[1], TOKEN, False))
    assert error.reason in ("UNREACHABLE", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu.lan", ("gpu.lan", 50051)),
        (" GPU.lan:8443 ", ("gpu.lan", 8443)),
        ("10.0.0.2:1", ("10.0.0.2", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("::1", ("::1", 50051)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "https://gpu.lan", "gpu lan", "gpu:", "gpu:0", "gpu:65536", "gpu:port", ":80"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(AddonError) as caught:
        parse_address(text)
    assert caught.value.reason == "ADDRESS_INVALID"


def test_an_ipv6_address_goes_to_grpc_in_brackets():
    assert RemoteBackend("::1", 80, TOKEN).address == "[::1]:80"


def test_loopback_is_this_machine_only():
    assert is_loopback("localhost") and is_loopback("127.0.0.9") and is_loopback("::1")
    assert not is_loopback("localhost.evil.example") and not is_loopback("10.0.0.1")


def test_only_this_machine_is_spoken_to_in_the_open(monkeypatch):
    monkeypatch.delenv("MVGAMBA_TOKEN", raising=False)
    assert not remote_backend("localhost", token=TOKEN, has_tls=False, ca_file="").has_tls
    with pytest.raises(AddonError) as caught:
        remote_backend("gpu.lan", token=TOKEN, has_tls=False, ca_file="")
    assert caught.value.reason == "TLS_ERROR" and "gpu.lan" in caught.value.message


def test_the_token_of_the_environment_goes_first(monkeypatch):
    monkeypatch.setenv("MVGAMBA_TOKEN", "of-the-environment")
    assert remote_backend("gpu.lan", token="", has_tls=True, ca_file="").token == "of-the-environment"


@pytest.mark.parametrize("token", ["", "two words", "schlüssel", "line\nbreak"])
def test_a_token_that_cannot_be_sent_is_refused(monkeypatch, token):
    monkeypatch.delenv("MVGAMBA_TOKEN", raising=False)
    with pytest.raises(AddonError) as caught:
        remote_backend("gpu.lan", token=token, has_tls=True, ca_file="")
    assert caught.value.reason == "UNAUTHENTICATED" and (not token or token not in caught.value.message)
