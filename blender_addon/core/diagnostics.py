"""What a bug report needs, as text; without what a person made, unless they say so, and never with a token."""

import json
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .backend_status import BackendStatus

NUM_LINES = 200
"""Of each log."""
HIDDEN = "***"


def report(
    facts: dict[str, Any], *, logs: dict[str, Iterable[str]], home: Path | None = None, secrets: Iterable[str] = ()
) -> str:
    """JSON of `facts` and the logs; the home folder is shortened to ~ and every secret is hidden, wherever they stand."""
    ends = {name: list(lines)[-NUM_LINES:] for name, lines in logs.items()}
    whole = {**facts, "system": system_facts(), "logs": ends}
    cleaned = _walk(whole, str(home or Path.home()), [secret for secret in secrets if secret])
    return json.dumps(cleaned, indent=2, ensure_ascii=False, default=str)


def system_facts() -> dict[str, str]:
    """The machine, without its name."""
    return {
        "platform": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "executable": sys.executable,
    }


def backend_facts(status: BackendStatus) -> dict[str, Any]:
    """Versions, devices and models as the backend tells them."""
    facts: dict[str, Any] = {"state": status.state.value, "is_remote": status.is_remote}
    if status.reason:
        facts |= {"reason": status.reason, "message": status.message}
    info = status.info
    if info is not None:
        facts |= {
            "version": info.version,
            "api": list(info.api),
            "packages": dict(info.packages),
            "devices": [
                {"id": d.id, "name": d.name, "memory_bytes": d.memory_bytes, "free_memory_bytes": d.free_memory_bytes}
                for d in info.devices
            ],
            "generators": {g.name: g.why_not if not g.is_available else "available" for g in info.generators},
            "sources": list(info.sources),
            "jobs": {"queued": info.num_queued, "running": info.num_running},
        }
    return facts


def _walk(value: Any, home: str, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _walk(item, home, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, home, secrets) for item in value]
    return redacted(value, home=home, secrets=secrets) if isinstance(value, str | Path) else value


def redacted(value: str | Path, *, home: str, secrets: Iterable[str] = ()) -> str:
    """Text without the home folder's name and without secrets."""
    text = str(value)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = re.sub(r"(?i)(bearer\s+)\S+", rf"\1{HIDDEN}", text)
    if len(home) > 1:
        # either slash, as Python, Blender and the logs of Windows write them; and not the head of a longer name
        pattern = "[/\\\\]+".join(re.escape(part) for part in re.split(r"[/\\]+", home.rstrip("/\\")))
        text = re.sub(rf"{pattern}(?=$|[^\w.-])", "~", text, flags=re.IGNORECASE if "\\" in home else 0)
    return text
