"""How an error is shown in one cell of a notebook."""

from amlrealtimeai.errors import extras_named


def short_error() -> None:
    """Show this cell's error as its last line only; the next cell's errors have their line numbers again."""
    with extras_named():
        from IPython import get_ipython

    shell = get_ipython()
    if shell is None or shell.InteractiveTB.mode == "Minimal":
        return
    before = shell.InteractiveTB.mode

    def restore(*_: object) -> None:
        shell.InteractiveTB.set_mode(before)
        shell.events.unregister("post_run_cell", restore)

    shell.events.register("post_run_cell", restore)
    shell.InteractiveTB.set_mode("Minimal")
