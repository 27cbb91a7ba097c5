"""Where jobs run: never in the server's process."""

from mvgamba.registry import Registry
from mvgamba_backend.engine.protocol import Description, Engine, EngineSettings, Listener, OutputFile, Task

ENGINES = Registry(
    "engine",
    {
        "local": "mvgamba_backend.engine.local:LocalEngine",
    },
)

__all__ = ["ENGINES", "Description", "Engine", "EngineSettings", "Listener", "OutputFile", "Task"]
