"""The process of one replica: reads requests from a socket, computes one after the other, and answers.

    python -m amlrealtimeai.serving.replicas.worker MODEL.accelonnx THREADS MAX_PIXELS SERVER_PID

The socket is its standard input. Its first frame says that the model is loaded and warm, or why it is not. It ends with
its server, whatever it is doing; signals that are meant for the server's whole group leave it alone.
"""

import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError
from amlrealtimeai.serving.process import allocator
from amlrealtimeai.serving.replicas import frames

_LOOK_SECONDS = 1.0
_LONGEST = 100_000  # characters of a trace


class _UnwantedError(Exception):
    """Nobody waits for the answer any more."""


def main(arguments: list[str]) -> int:
    """Answer until the server ends or has no more use for this replica; the exit status."""
    path, threads, max_pixels, server = arguments
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    peer = _socket()
    threading.Thread(target=_end_with, args=(peer, int(server)), daemon=True).start()
    allocator.give_large_blocks_back()
    try:
        model = ConvertedModel.load(path, int(threads) or None, int(max_pixels))
        model.warm_up()
    except AmlRealtimeAiError as error:
        frames.send(peer, {"refused": str(error)})
        return 1
    gc.collect()
    gc.freeze()  # what is here now stays; collections need not walk through it
    frames.send(peer, {"ready": True})
    while (frame := frames.receive(peer)) is not None:
        head, data = frame
        if "outputs" in head:
            frames.send(peer, *_answer(model, head, data, peer))
        elif "alive" in head:
            frames.send(peer, head)  # anything else was to end a request that is over
    return 0


def _socket() -> socket.socket:
    peer = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return peer


def _end_with(peer: socket.socket, server: int) -> None:
    """End this process when the server has ended, even where a process that it had forked holds its socket."""
    poll = select.poll()
    poll.register(peer, 0)  # which tells of the end alone
    while os.getppid() == server and not poll.poll(_LOOK_SECONDS * 1000):
        continue
    os._exit(0)


def _answer(model: ConvertedModel, head: frames.Head, data: bytes, peer: socket.socket) -> tuple[frames.Head, bytes]:
    def check() -> None:
        # The server sends nothing while it waits for an answer, but that it does not want one any more.
        if frames.is_waiting(peer, 0.0):
            raise _UnwantedError

    try:
        prediction = model.predict(frames.unpacked(data), head["outputs"], check)
        return {"timings": prediction.timings}, frames.packed(prediction.outputs)
    except _UnwantedError:
        return {"unwanted": True}, b""
    except InvalidInputError as error:
        return {"invalid": str(error)}, b""
    except Exception:
        return {"failed": traceback.format_exc()[-_LONGEST:]}, b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
