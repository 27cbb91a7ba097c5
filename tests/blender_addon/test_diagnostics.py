"""What a bug report tells, and what it must not."""

import json
from pathlib import Path

import pytest

from blender_addon.core.backend_status import BackendState, BackendStatus
from blender_addon.core.diagnostics import backend_facts, redacted, report
from blender_addon.core.server_info import DeviceInfo, GeneratorInfo, ServerInfo


@pytest.mark.parametrize(
    ("home", "text", "expected"),
    [
        ("/home/žofie", "/home/žofie/mvgamba/log", "~/mvgamba/log"),
        ("/home/an", "/home/anna/file and /home/an/file", "/home/anna/file and ~/file"),
        ("/home/an/", "in /home/an: no", "in ~: no"),
        ("C:\\Users\\Jürgen", "c:\\users\\jürgen\\AppData", "~\\AppData"),
        ("C:\\Users\\Jürgen", "C:/Users/Jürgen/AppData", "~/AppData"),
        ("C:\\Users\\Jürgen", "C:\\\\Users\\\\Jürgen\\\\AppData", "~\\\\AppData"),
        ("/", "/etc", "/etc"),
    ],
)
def test_the_home_folder_is_shortened(home, text, expected):
    assert redacted(text, home=home) == expected


def test_a_token_is_never_told_wherever_it_stands():
    facts = {"preferences": {"address": "gpu", "arguments": ["--x", "s3cret"]}, "path": Path("/s3cret/x")}
    text = report(facts, logs={"backend": ["token s3cret", "authorization: Bearer abc.def"]}, secrets=["s3cret", ""])
    assert "s3cret" not in text and "abc.def" not in text
    assert json.loads(text)["logs"]["backend"] == ["token ***", "authorization: Bearer ***"]


def test_only_the_end_of_a_log_is_told():
    text = report({}, logs={"backend": [f"line {i}" for i in range(1000)]})
    lines = json.loads(text)["logs"]["backend"]
    assert len(lines) == 200 and lines[-1] == "line 999"


def test_what_the_backend_says_of_itself_is_told():
    info = ServerInfo(
        True,
        ("text",),
        (GeneratorInfo("starter", True, "", ("text",)), GeneratorInfo("mvdream", False, "no weights", ("text",))),
        version="0.1.0",
        devices=(DeviceInfo("cuda:0", "H200", 10, 5),),
        packages=(("torch", "2.13"),),
    )
    facts = backend_facts(BackendStatus(BackendState.READY, info=info))
    assert facts["packages"] == {"torch": "2.13"} and facts["devices"][0]["free_memory_bytes"] == 5
    assert facts["generators"] == {"starter": "available", "mvdream": "no weights"}
    failed = backend_facts(BackendStatus(BackendState.FAILED, "TLS_ERROR", "wants TLS"))
    assert failed["reason"] == "TLS_ERROR" and "version" not in failed
