"""Commands that are forked are known as others are."""

from __future__ import annotations

import io
import socket
import subprocess
import sys

from tests.forked import ForkedCommand


def test_a_command_that_has_ended_and_not_told_so_yet_can_be_killed() -> None:
    told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with telling:
        telling.send(str(ended.pid).encode())
        command = ForkedCommand(told, io.StringIO(), io.StringIO())
        command.kill()
        telling.send(b"7")
        assert command.wait() == 7
