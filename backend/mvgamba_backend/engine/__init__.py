"""Where jobs run: never in the server's process."""

from mvgamba.registry import Registry
from mvgamba_backend.engine.protocol import (
    MAX_PREVIEW_BYTES,
    Description,
    Engine,
    EngineSettings,
    Listener,
    OutputFile,
    Task,
)

ENGINES = Registry(
    "engine",
    {
        "local": "mvgamba_backend.engine.local:LocalEngine",
    },
)

__all__ = ["ENGINES", "MAX_PREVIEW_BYTES", "Description", "Engine", "EngineSettings", "Listener", "OutputFile", "Task"]
