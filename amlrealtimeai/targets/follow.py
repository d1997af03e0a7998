"""A server follows its rows: its files are kept equal to them, and without a row it ends. So no kill orphans a server.

`python -m amlrealtimeai.targets.follow STORE ID [options of serving]` is the process of a server in a child.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from amlrealtimeai.errors import AmlRealtimeAiError, NotFoundError
from amlrealtimeai.store import Store
from amlrealtimeai.targets.files import Files

SECONDS = 1.0
IDLE_SECONDS = 60.0
_LOG_BYTES = 8 << 20


class Follower:
    """Looks at the rows of a server every second, in a thread, until `stop`; calls `on_gone` once when it has none.

    on_look is called at each look, and `log` is cut when it is too long. With `ends_idle`, a server that has had no
    service for IDLE_SECONDS gives up its row.
    """

    def __init__(
        self,
        store: Store,
        id: str,
        log: Path,
        on_gone: Callable[[], None],
        on_look: Callable[[], None] = lambda: None,
        ends_idle: bool = False,
    ) -> None:
        self._store = store
        self._files = Files(store, id)
        self._log = log
        self._on_gone, self._on_look = on_gone, on_look
        self._ends_idle = ends_idle
        self._busy_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="amlrealtimeai-follow", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(SECONDS):
            if not self._look():
                self._stopped.set()
                self._on_gone()

    def _look(self) -> bool:
        """Whether the server is still wanted; a full disk or a busy store leaves the answer to the next look."""
        try:
            if not self._files.derive():
                return False
            self._on_look()
            if self._files.read_services():
                self._busy_at = time.monotonic()
            elif (
                self._ends_idle
                and time.monotonic() - self._busy_at > IDLE_SECONDS
                and retire(self._store, self._files.id)
            ):
                return False
            cut(self._log)
        except NotFoundError:
            return False
        except (AmlRealtimeAiError, OSError):
            return self._store.database.path.exists()
        return True


def retire(store: Store, id: str) -> bool:
    """Delete the row of a server that no service uses, so that nobody gives it one any more; whether that was done."""
    with store.database.write() as connection:
        done = connection.execute(
            "DELETE FROM servers WHERE id = ? AND NOT EXISTS (SELECT 1 FROM webservices WHERE server = ?)", (id, id)
        )
        return done.rowcount > 0


def cut(log: Path) -> None:
    """Move what a log holds to one older file when it is too long; its writers, who append, go on with an empty one."""
    with suppress(OSError):
        if log.stat().st_size > _LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def main(arguments: list[str]) -> int:
    """Follow the rows beside the server, or beside its supervisor, and end it when it is not wanted any more."""
    from amlrealtimeai.serving.__main__ import main as serve

    store, id, log, *options = arguments
    opened = Store.opened(Path(store))
    if opened is None:
        return 0
    follower = Follower(opened, id, Path(log), on_gone=lambda: os.kill(os.getpid(), signal.SIGTERM), ends_idle=True)
    follower.start()
    return serve(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
