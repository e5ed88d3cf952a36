"""structlog, as its page on performance sets it up: a time, JSON, and a file that nobody reads."""

import os
from typing import Any

from benchmarks.subject import Statement, main


def info() -> Any:
    """`info` of a cached logger."""
    import logging

    import structlog

    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=open(os.devnull, "w")),  # noqa: SIM115
    )
    return structlog.get_logger().bind().info


SUBJECTS = {"structlog_info": Statement('info("read", duration_us=12)', "info", info)}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
