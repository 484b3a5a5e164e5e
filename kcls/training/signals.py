"""Ctrl-C and SIGTERM: noted, so that the loop can save before it stops."""

import signal
from types import FrameType


class StopSignals:
    """Within the ``with`` block, the first SIGINT or SIGTERM is kept in ``received``; a second one acts at once."""

    received: int | None = None

    def __enter__(self):
        self._old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: whoever runs us there handles signals
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def __exit__(self, kind, error, trace) -> None:
        self._restore()
