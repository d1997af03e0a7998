"""A service whose new model cannot be served goes on with the former one: then its row names that again."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace

from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.store.rows import Row, find, now, update
from amlrealtimeai.targets.base import FAILED, HEALTHY, TRANSITIONING, Status

_COLUMNS = ("model_name", "model_version", "image_name", "image_version")


def remember(row: Row, before: Row, status: Callable[[], Status]) -> Row:
    """`row`, which is to replace `before`, with what it replaces: the model that is served at the moment."""
    settings = {key: value for key, value in row["settings"].items() if key not in ("former", "failure")}
    if row["settings"]["revision"] != before["settings"]["revision"]:
        former = {"revision": before["settings"]["revision"], **{column: before[column] for column in _COLUMNS}}
        if status().state in (TRANSITIONING, FAILED):  # the model of `before` is not served, and perhaps never will be
            former = before["settings"].get("former", former)
        settings["former"] = former
    return {**row, "settings": settings}


def settle(workspace: Workspace, row: Row, status: Status) -> tuple[Row, Status]:
    """The row and the status of a service, once what came of its last change is written into its row.

    After a change that failed the row names the model that is served, and the status says until the next change that,
    and why, it failed.
    """
    former = row["settings"].get("former")
    if former and status.state == FAILED and status.revision == former["revision"]:
        row = _written(workspace, row, {**former, "failure": status.reason})
    elif former and status.state == HEALTHY and status.revision == row["settings"]["revision"]:
        row = _written(workspace, row, {})
    failure = row["settings"].get("failure")
    if failure and status.state in (HEALTHY, TRANSITIONING):  # the latter while the target takes the row up again
        status = replace(status, state=FAILED, reason=failure)
    return row, status


def _written(workspace: Workspace, row: Row, outcome: Row) -> Row:
    """The row without what it replaced, and with `outcome`, unless somebody has changed it or deleted what it names."""
    columns = {column: outcome[column] for column in _COLUMNS if column in outcome}
    settings = {key: value for key, value in row["settings"].items() if key != "former"}
    settings |= {key: value for key, value in outcome.items() if key not in _COLUMNS}
    moment = {"updated": now()} if outcome else {}
    with workspace.store.database.write() as connection:
        current = find(connection, "webservices", {"name": row["name"]})
        if current != row or not _exist(connection, columns):
            return row
        return update(connection, "webservices", {"name": row["name"]}, **columns, settings=settings, **moment)


def _exist(connection: sqlite3.Connection, columns: Row) -> bool:
    for kind in ("model", "image"):
        name, version = columns.get(f"{kind}_name"), columns.get(f"{kind}_version")
        if name is not None and find(connection, f"{kind}s", {"name": name, "version": version}) is None:
            return False
    return True
