"""Log lines for machines: one JSON object a line, with the fields of the request where there is one."""

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amlrealtimeai.serving.request.answers import Record

TEXT_FORMAT = "time=%(asctime)s.%(msecs)03d level=%(levelname)s %(message)s"
TEXT_TIME = "%Y-%m-%dT%H:%M:%S"


class JsonFormatter(logging.Formatter):
    """{"time", "level", "message"} and for requests {"request", "method", "model", "code", "us": {...}, "text"}."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": moment, "level": record.levelname}
        request: Record | None = getattr(record, "record", None)
        if request is not None:
            line |= {"request": request.request_id, "method": request.method, "model": request.model}
            line |= {"code": request.code, "bytes": request.size}
            line["us"] = {name: round(seconds * 1e6) for name, seconds in request.timings.items()}
            if request.text:
                line["text"] = request.text
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str, kind: str) -> None:
    """Log to stderr, as "text" or "json"."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if kind == "json" else logging.Formatter(TEXT_FORMAT, TEXT_TIME))
    logging.basicConfig(handlers=[handler], level=level.upper())
