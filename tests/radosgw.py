"""A real S3-compatible store on this machine: Ceph's object gateway, from Debian's packages, with its data in memory.

    with Radosgw(tmp_path / "radosgw") as server:
        boto3.client("s3", endpoint_url=server.address)

Three processes make it: a monitor, one storage daemon, and the gateway. It is up in a few seconds and takes 150 MB.
The kernel ends the three when the thread that started them ends, however that happens.
"""

import os
import random
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv")
PACKAGES = "radosgw ceph-mon ceph-osd"
ACCESS = SECRET = "testing"
PATIENCE = 90.0  # seconds for a start, on a machine that has other work
STARTS = 3  # with other ports each: somebody may take a port between its choice and its use

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
# The gateway asks for an encrypted way to the monitor, which there isn't without authentication (seen in 16.2.15).
ms mon client mode = crc

mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
keyring = {folder}/keyring
run dir = {folder}
log file = {folder}/$name.log
# The path of a socket has 107 characters at most, and a test's folder may be deeper.
admin socket =

osd objectstore = memstore
memstore device bytes = {capacity}
osd class update on start = false
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
# One monitor has nobody to wait for. With the default of a second, a start takes ten.
paxos propose interval = 0.02
"""


def lacking() -> list[str]:
    """Give the names of the programs that a start needs and this machine doesn't have."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Radosgw:
    """The server, from `__enter__` to `__exit__`. Its one user may make buckets."""

    def __init__(self, folder: Path, *, capacity: int = 4 << 30) -> None:
        """Let the daemons write into `folder`, which is removed at the end, and keep up to `capacity` bytes of data."""
        self.folder = folder
        self.capacity = capacity
        self.address = ""
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for start in range(STARTS):
            try:
                self._start()
            except (OSError, subprocess.SubprocessError):
                self._stop()
                if start == STARTS - 1:
                    raise
            except BaseException:
                self._stop()
                raise
            else:
                break
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()

    def admin(self, *arguments: str) -> str:
        """Run `radosgw-admin` on this server; give what it prints."""
        return self._run("radosgw-admin", "--name", "client.rgw", *arguments)

    def _start(self) -> None:
        deadline = time.monotonic() + PATIENCE
        monitor, gateway = free_ports(2)
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "keyring").touch()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (self.folder / "ceph.conf").write_text(
            CONFIGURATION.format(fsid=fsid, port=monitor, folder=self.folder, capacity=self.capacity)
        )
        known = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor}]", known)
        self._run("ceph-mon", "--id", "a", "--mkfs", "--monmap", known)
        self._spawn("ceph-mon", "--id", "a")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "--id", "0")
        keys = ("--access-key", ACCESS, "--secret-key", SECRET)
        self.admin("user", "create", "--uid", "test", "--display-name", "test", "--max-buckets", "0", *keys)
        self._spawn("radosgw", "--name", "client.rgw", "--rgw-frontends", f"beast endpoint=127.0.0.1:{gateway}")
        self.address = f"http://127.0.0.1:{gateway}"
        while not answers(self.address):
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                raise OSError(f"radosgw doesn't answer at {self.address}: {self._said()}")
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> str:
        """Run a program to its end. Those that need the daemons wait for them."""
        command = [program, "--conf", str(self.folder / "ceph.conf"), *arguments]
        if program == "monmaptool":
            command = [program, *arguments]
        try:
            return subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=PATIENCE, env=environment()
            ).stdout
        except subprocess.CalledProcessError as error:
            raise OSError(f"{program} failed: {error.stderr[-2000:]}") from None

    def _spawn(self, program: str, *arguments: str) -> None:
        command = [program, "--conf", str(self.folder / "ceph.conf"), "-f", *arguments]
        with (self.folder / f"{program}.out").open("wb") as said:
            self._processes.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=environment(),
                )
            )

    def _said(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-1000:] for file in self.folder.glob("*.out"))

    def _stop(self) -> None:
        for process in reversed(self._processes):  # nothing in memory is worth an orderly end
            process.kill()
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def environment() -> dict[str, str]:
    """Give the environment without what would lead Ceph, or the Python that its commands are written in, elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CEPH", "PYTHON"))}


def free_ports(count: int) -> list[int]:
    """Choose ports that nobody listens on, below those that the kernel gives to outgoing connections."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as trying:
            try:
                trying.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def answers(address: str) -> bool:
    """Say whether an S3 server answers there, be it with a refusal."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
