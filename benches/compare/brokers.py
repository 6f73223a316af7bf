"""Fetching, starting and stopping the two brokers.

Each broker gets a fresh data directory and listens on a free port of the loopback; it is stopped by its own
process id. `restart` keeps the data, for reads from a cold start.
"""

import glob
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_WAIT_S = 120
STOP_WAIT_S = 60
KAFKA_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"

# Heap and collector as Kafka's own start script sets them.
KAFKA_JVM = [
    "-server", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
]

KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_java(wished):
    """The JDK asked for, JAVA_HOME's, or the newest installed one."""
    homes = [os.environ.get("JAVA_HOME"), *sorted(glob.glob("/usr/lib/jvm/*"), key=java_version, reverse=True)]
    for java in [wished, *(f"{home}/bin/java" for home in homes if home), "java"]:
        if java and shutil.which(java):
            return java
    raise SystemExit("no Java found: give --java or set JAVA_HOME")


def java_version(home):
    try:
        release = Path(home, "release").read_text()
        version = release.split('JAVA_VERSION="')[1].split('"')[0]
        return tuple(int(part) for part in version.split(".") if part.isdigit())
    except (OSError, IndexError):
        return (0,)


def fetch_kafka(work_dir):
    """Copies Apache Kafka and what it needs from Maven Central, once."""
    libs = work_dir / "kafka-libs"
    if not list(libs.glob("kafka_*.jar")):
        print("fetching Apache Kafka from Maven Central …", flush=True)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime"]
        subprocess.run(["mvn", "-q", "-B", "-Dstyle.color=never", "-f", HERE / "pom.xml", *goal], check=True)
    return libs


class Broker:
    """A broker process. `name` is its column in the table."""

    name = ""

    def __init__(self, directory):
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        """Makes the data directory ready for a first start."""

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.prepare()
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        # What this run has left to be written must not be written in the next one.
        os.sync()

    def start(self):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.directory)
        deadline = time.monotonic() + START_WAIT_S
        while not self.is_listening():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{self.name} did not start:\n{tail}")
            time.sleep(0.05)

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop()
        self.start()

    def drop_caches(self):
        """Puts the data files out of the page cache; written pages first go to the device."""
        os.sync()
        for path in self.data.rglob("*"):
            if path.is_file():
                handle = os.open(path, os.O_RDONLY)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)


class Kafka(Broker):
    name = "Kafka"

    def __init__(self, directory, libs, java, is_durable):
        super().__init__(directory)
        self.java = java
        self.class_path = f"{libs}/*"
        self.is_durable = is_durable

    def prepare(self):
        properties = KAFKA_PROPERTIES.format(port=self.port, controller=free_port(), data=self.data)
        if self.is_durable:
            properties += "log.flush.interval.messages=1\n"
        path = self.directory / "server.properties"
        path.write_text(properties)
        tool = [self.java, "-cp", self.class_path, "kafka.tools.StorageTool"]
        subprocess.run([*tool, "format", "-t", KAFKA_CLUSTER_ID, "-c", path], check=True, capture_output=True)

    def command(self):
        server = [self.java, *KAFKA_JVM, "-cp", self.class_path, "kafka.Kafka"]
        return [*server, str(self.directory / "server.properties")]


class StreamBus(Broker):
    name = "StreamBus"

    def __init__(self, directory, binary, settings=()):
        super().__init__(directory)
        self.binary = binary
        self.settings = settings
        self.http_port = free_port()

    def command(self):
        http = f"127.0.0.1:{self.http_port}"
        flags = [flag for setting in self.settings for flag in ("--set", setting)]
        return [self.binary, "--data-dir", str(self.data), "--listen", self.address, "--http", http, *flags]

    def metric(self, name):
        """Sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)
