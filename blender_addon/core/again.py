"""Jobs that go on from an earlier one."""

import dataclasses
from pathlib import Path
from typing import Any

from .request import JobRequest, Target


def request_again(request: JobRequest, target: Target, *, seed: int, **changes: Any) -> JobRequest:
    """The same job under a new identity and for one result. `changes` are of the options."""
    options = dataclasses.replace(
        request.options, **{"variants": 1, "review_views": False, "seed": seed % 2**31, **changes}
    )
    return JobRequest(request.label, request.views, options, target, request.capture, source=request.source)


def missing_files(request: JobRequest) -> list[Path]:
    """What would have to be sent and is no longer on the disk."""
    return [path for path in request.files() if not path.is_file()]
