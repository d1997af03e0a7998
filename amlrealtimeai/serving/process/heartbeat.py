"""A pipe on which a server tells its supervisor that it answers; silence means that it hangs."""

import contextlib
import os
import select
import time


class Heart:
    """The server's end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)  # a supervisor that does not read must not hold up the server

    def beat(self) -> None:
        """Say that all is well."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, b".")


class Pulse:
    """The supervisor's end; its child has to inherit the other one. `silence`: seconds since the last beat.

    On Windows, whose children inherit no descriptors, nothing is ever heard, and nothing missed.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_inheritable(self._write, True)
        self._heard = False
        self.silence = 0.0

    @property
    def arguments(self) -> list[str]:
        """What tells the child of its end."""
        return [] if os.name == "nt" else ["--heartbeat", str(self._write)]

    def started(self) -> None:
        """The child has its end."""
        os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Until a beat, the end of the child, or so long; before its first beat a child is not silent but starting."""
        if os.name == "nt":
            time.sleep(0.1)
            return
        before = time.monotonic()
        ready, _, _ = select.select([self._read], [], [], seconds)
        if ready and os.read(self._read, 1 << 12):
            self._heard, self.silence = True, 0.0
            return
        if ready:
            time.sleep(0.02)  # the child has closed its end and is about to end
        if self._heard:
            # Time in which nothing ran here, either, does not count: a suspended laptop, a machine that is overloaded.
            self.silence += min(time.monotonic() - before, 2 * seconds)

    def close(self) -> None:
        """Forget the child."""
        os.close(self._read)
