"""Where the main thread of Blender spends its time: gaps between ticks of a timer, and what ran in them."""

import bisect
import sys
import threading
import time
from types import CodeType
from typing import Any

import bpy
from harness import EXTENSION

TICK = 0.01
"""Seconds between two looks at the clock. Blender's timers are not more exact."""
_NOTED = 0.002
"""Seconds from which a call is kept."""
_REDRAW, _SIDEBAR = "3D View redraw", "sidebar redraw"
"""Slow here, where the processor stands for a GPU: gaps with one are also counted apart."""


class Probe:
    """Records from `start` to `stop`. One at a time; main thread only."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.calls: list[tuple[float, float, str]] = []
        """Begin, end and name of each longer call of the extension, and of each redraw of a 3D View."""
        self.draws: dict[str, list[float]] = {}
        """Seconds of each draw of each panel."""
        self._stack: list[tuple[CodeType, float]] = []
        self._redraw = 0.0
        self._handles: list[Any] = []
        self._timer = self._tick  # timers know a function by identity
        self._folder = EXTENSION.split(".")[-1] + "/"

    def start(self) -> None:
        monitor = sys.monitoring  # from Python 3.12 on: only the extension's own functions are slowed, by a microsecond
        monitor.use_tool_id(monitor.PROFILER_ID, "probe")
        events = monitor.events
        monitor.register_callback(monitor.PROFILER_ID, events.PY_START, self._begin)
        monitor.register_callback(monitor.PROFILER_ID, events.PY_RETURN, self._end)
        monitor.register_callback(monitor.PROFILER_ID, events.PY_UNWIND, self._unwind)
        monitor.set_events(monitor.PROFILER_ID, events.PY_START | events.PY_RETURN | events.PY_UNWIND)
        add = bpy.types.SpaceView3D.draw_handler_add
        self._handles = [
            add(self._draw_begins, (), "WINDOW", "PRE_VIEW"),
            add(self._draw_ends, (), "WINDOW", "POST_PIXEL"),
        ]
        self._sidebar = add(self._sidebar_ends, (), "UI", "POST_PIXEL")
        bpy.app.timers.register(self._timer, persistent=True)

    def stop(self) -> None:
        monitor = sys.monitoring
        monitor.set_events(monitor.PROFILER_ID, 0)
        monitor.free_tool_id(monitor.PROFILER_ID)
        monitor.restart_events()
        for handle in self._handles:
            bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
        bpy.types.SpaceView3D.draw_handler_remove(self._sidebar, "UI")
        bpy.app.timers.unregister(self._timer)

    def figures(self) -> dict[str, Any]:
        """Milliseconds: percentiles of the gaps, the largest with what ran in them, draw times of the panels."""
        gaps = sorted(((end - begin, begin, end) for begin, end in zip(self.times, self.times[1:])), reverse=True)
        views = [(begin, end) for begin, end, name in self.calls if name == _REDRAW]
        sidebars = [(begin, end) for begin, end, name in self.calls if name == _SIDEBAR]
        without_view = _apart_from(views, gaps)
        quiet = _apart_from(sidebars, without_view)
        return {
            "seconds": round(self.times[-1] - self.times[0], 1),
            "ticks": len(self.times),
            "gap_ms": _percentiles([gap[0] for gap in gaps]),
            "gap_without_view_redraw_ms": _percentiles([gap[0] for gap in without_view]),
            "gap_without_redraw_ms": _percentiles([gap[0] for gap in quiet]),
            "largest": [{"ms": round(1e3 * gap), "ran": self.ran_between(begin, end)} for gap, begin, end in gaps[:8]],
            "largest_without_redraw": [
                {"ms": round(1e3 * gap), "ran": self.ran_between(begin, end)} for gap, begin, end in quiet[:20]
            ],
            "sidebar_redraws": len(sidebars),
            "view_redraw_ms": _summary([end - begin for begin, end, name in self.calls if name == _REDRAW]),
            "panel_draw_ms": {name: _summary(values) for name, values in sorted(self.draws.items())},
            "pump_ms": _summary(self.durations("Session.pump")),
        }

    def durations(self, name: str) -> list[float]:
        """Seconds of the longer calls of this name."""
        return [end - begin for begin, end, called in self.calls if called.endswith(name)]

    def ran_between(self, begin: float, end: float) -> list[str]:
        """What took most of a gap, longest first."""
        inside = [
            (min(end, call_end) - max(begin, call_begin), name)
            for call_begin, call_end, name in self.calls
            if call_begin < end and call_end > begin
        ]
        inside.sort(reverse=True)
        names = [f"{name} {1e3 * seconds:.0f} ms" for seconds, name in inside[:10]]
        return names or ["nothing of the extension"]

    def _tick(self) -> float:
        self.times.append(time.perf_counter())
        return TICK

    def _begin(self, code: CodeType, _offset: int) -> Any:
        if self._folder not in code.co_filename:
            return sys.monitoring.DISABLE
        if threading.current_thread() is threading.main_thread():
            self._stack.append((code, time.perf_counter()))
        return None

    def _end(self, code: CodeType, _offset: int, _value: object) -> Any:
        if self._folder not in code.co_filename:
            return sys.monitoring.DISABLE
        self._leave(code)
        return None

    def _unwind(self, code: CodeType, _offset: int, _error: BaseException) -> None:
        if self._folder in code.co_filename:
            self._leave(code)

    def _leave(self, code: CodeType) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        now = time.perf_counter()
        while self._stack:
            entered, began = self._stack.pop()
            if entered is code:
                break
        else:
            return
        if now - began >= _NOTED:
            module = code.co_filename.rpartition(self._folder)[2].removesuffix(".py").replace("/", ".")
            bisect.insort(self.calls, (began, now, f"{module}:{code.co_qualname}"))
        if code.co_name == "draw" and "_PT_" in code.co_qualname:
            self.draws.setdefault(code.co_qualname.removesuffix(".draw"), []).append(now - began)

    def _draw_begins(self) -> None:
        self._redraw = time.perf_counter()

    def _draw_ends(self) -> None:
        self.calls.append((self._redraw, time.perf_counter(), _REDRAW))

    def _sidebar_ends(self) -> None:
        now = time.perf_counter()
        self.calls.append((now, now, _SIDEBAR))


def _apart_from(
    spans: list[tuple[float, float]], gaps: list[tuple[float, float, float]]
) -> list[tuple[float, float, float]]:
    """The gaps that none of these spans touches, in their order. The spans follow one another."""
    ordered = sorted(spans)
    ends = [end for _, end in ordered]

    def touches(gap: tuple[float, float, float]) -> bool:
        first = bisect.bisect_right(ends, gap[1])
        return first < len(ordered) and ordered[first][0] < gap[2]

    return [gap for gap in gaps if not touches(gap)]


def _percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds, of values in falling order; empty for none: a busy machine may redraw in every gap."""
    if not seconds:
        return {}
    shares = {"p50": 0.5, "p99": 0.01, "p99.9": 0.001, "max": 0.0}
    return {name: round(1e3 * seconds[int(share * len(seconds))], 1) for name, share in shares.items()}


def _summary(seconds: list[float]) -> dict[str, float]:
    """Count, median and largest, in milliseconds."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50": round(1e3 * ordered[len(ordered) // 2], 2),
        "max": round(1e3 * ordered[-1], 2),
    }
