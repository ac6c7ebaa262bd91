"""After a crash: have the controller fence the broker before the broker starts.

Seen with Apache Kafka 4.3.1. A node that is killed is still registered, so its broker comes back as
the leader of every partition before it may register again, which is when its old session has run
out. In between, the transaction coordinator tries to send the markers of transactions that were
committed just before the crash to a broker that does not listen yet; when the session then runs
out, it calls them complete without markers. Their records, and all behind them, then stay hidden
from readers of committed messages for ever.

So the node is first run as a controller alone, until it has fenced its broker. After that, the
broker leads nothing until it is registered, and finishes what was open.
"""

import time
from pathlib import Path

from outlay.embedded import kafka_config
from outlay.embedded.children import ChildProcess

SESSION_TIMEOUT_MS = 1_000  # of the broker that is known to be gone
START_TIMEOUT_S = 60.0
# From the controller's start of work to its fencing; all there is to wait for a broker that was
# fenced before, or had crashed before it was ever registered.
FENCING_TIMEOUT_S = 6.0
SETTLE_S = 0.5  # from the controller's word to the record being in its log

_ACTIVE = "Performing controller activation"
_FENCED = "session has timed out"


def write_files(data_dir: Path, controller_port: int) -> Path:
    """Write the settings and logging of the controller alone; the path of its settings."""
    settings = kafka_config.controller_properties(data_dir, controller_port, SESSION_TIMEOUT_MS)
    path = data_dir / "recovery.properties"
    path.write_text(settings)
    logging = kafka_config.logging_properties(log_path(data_dir))
    logging += "logger.c.name=org.apache.kafka.controller\nlogger.c.level=info\n"
    logging_path(data_dir).write_text(logging)
    log_path(data_dir).unlink(missing_ok=True)
    return path


def logging_path(data_dir: Path) -> Path:
    """Log4j 2's configuration of the controller alone."""
    return data_dir / "recovery-log4j2.properties"


def log_path(data_dir: Path) -> Path:
    """The log of the last recovery."""
    return data_dir / "recovery.log"


def fence(controller: ChildProcess, data_dir: Path) -> None:
    """Run the controller until it has fenced the broker, then stop it.

    Blocks for some three seconds. Raises `ChildFailed` when the controller ends or does not start
    to work within `START_TIMEOUT_S`.
    """

    def says(words: str) -> bool:
        log = log_path(data_dir)
        return log.exists() and words in log.read_text(errors="replace")

    controller.start()
    try:
        controller.wait_until(lambda: says(_ACTIVE), START_TIMEOUT_S)
        active_since = time.monotonic()

        def done() -> bool:
            return says(_FENCED) or time.monotonic() - active_since > FENCING_TIMEOUT_S

        controller.wait_until(done, 2 * FENCING_TIMEOUT_S)
        time.sleep(SETTLE_S)
    except BaseException:
        controller.kill()
        raise
    controller.stop()
