"""The two ways in which an image file is refused; both reach the sender as InvalidInputError."""

from amlrealtimeai.errors import InvalidInputError


class DamagedError(InvalidInputError):
    """The file is cut off or altered."""


class RefusedError(InvalidInputError):
    """The file is whole, but larger, more work, or of another kind than is served."""
