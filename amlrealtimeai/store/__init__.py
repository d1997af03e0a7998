"""What a workspace remembers: SQLite for the facts, blobs/sha256/ for the bytes, both safe against a kill at any time.

Several processes share one store; a listed object is always whole.
"""

from amlrealtimeai.store.store import Store

__all__ = ["Store"]
