"""Java, and Apache Kafka's jars: found in the user's cache, or fetched once with Maven."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from outlay.embedded.errors import JarsUnavailable

KAFKA_VERSION = "4.3.1"
# The SLF4J binding, without which Kafka logs nothing: as Kafka's release has it, but not its pom.
LOG4J_VERSION = "2.25.4"  # what kafka_2.13 of the version above depends on
JAVA_VERSION_MIN = 17  # a broker of Kafka 4 needs it
JAVA_ASK_TIMEOUT_S = 20.0
FETCH_TIMEOUT_S = 600.0  # 45 MB, and Maven's own plugins the first time
OUTPUT_CHARS_MAX = 2_000

_COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>outlay</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>{KAFKA_VERSION}</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def find_java() -> str | None:
    """The `java` command to use, of at least `JAVA_VERSION_MIN`: JAVA_HOME's, else PATH's."""
    home = os.environ.get("JAVA_HOME")
    candidates = (str(Path(home, "bin", "java")) if home else None, "java")
    for candidate in candidates:
        java = shutil.which(candidate) if candidate else None
        if java is not None and _major_version(java) >= JAVA_VERSION_MIN:
            return java
    return None


def find_maven() -> str | None:
    """The `mvn` command, if there is one."""
    return shutil.which("mvn")


def jars_dir() -> Path:
    """Where the jars are once they are cached: a folder in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "outlay", f"kafka-{KAFKA_VERSION}")


def jars_cached() -> bool:
    """Whether the jars are in the cache, so that Maven is not needed."""
    return (jars_dir() / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file()


def ensure_jars() -> Path:
    """The folder of the jars, which are fetched first when they are not cached.

    Fetched into a temporary folder that is renamed when complete, under a file lock: a caller that
    is killed leaves no half cache, and of two concurrent callers one fetches and the other waits.
    Blocks for at most `FETCH_TIMEOUT_S`, usually for some seconds. Raises `JarsUnavailable`.
    """
    target = jars_dir()
    if jars_cached():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock")):
        if jars_cached():  # by another process, while this one waited for the lock
            return target
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as work:
            jars = _fetch(Path(work))
            shutil.rmtree(target, ignore_errors=True)  # a folder without the jars, by another hand
            jars.rename(target)
    return target


def _fetch(work: Path) -> Path:
    """Have Maven copy the jars below `work`; the folder that holds them."""
    maven = find_maven()
    if maven is None:
        raise JarsUnavailable(
            f"Apache Kafka's jars are not cached in {jars_dir()}, and no mvn is found"
        )
    (work / "pom.xml").write_text(_POM)
    jars = work / "jars"
    command = (maven, "--batch-mode", "--quiet", _COPY_GOAL, "-DincludeScope=runtime")
    try:
        run = subprocess.run(
            (*command, f"-DoutputDirectory={jars}"),
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise JarsUnavailable(
            f"mvn did not fetch Apache Kafka {KAFKA_VERSION} within {FETCH_TIMEOUT_S:g} s"
        ) from error
    if run.returncode != 0 or not (jars / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file():
        raise JarsUnavailable(
            f"mvn could not fetch Apache Kafka {KAFKA_VERSION} (exit code {run.returncode}):\n"
            f"{run.stdout.strip()[:OUTPUT_CHARS_MAX]}"
        )
    return jars


def _major_version(java: str) -> int:
    """17 for a Java 17; 1 for a Java 8, which calls itself 1.8; 0 when it does not say."""
    try:
        run = subprocess.run(
            (java, "-version"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=JAVA_ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    said = re.search(r'version "(\d+)', run.stderr + run.stdout)
    return int(said.group(1)) if said else 0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; elsewhere than on Unix only the rename protects."""
    with path.open("a") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        yield
