"""What ``python`` and ``mlflow`` of this folder do: have the server fork the command, and stand for it.

The command gets the arguments, folder, environment and open files of this process, and the signals that are sent to
it. This process ends with the command and as the command does; if this process is killed, the server kills the command.
If this process leads a process group, its signals are those of the group, so the command's own group gets them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

files = []
for name in os.listdir("/proc/self/fd"):
    with suppress(OSError):  # the folder itself was open while it was listed
        os.fstat(int(name))
        files.append(int(name))
ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
leads = os.getpgrp() == os.getpid()
send = os.killpg if leads else os.kill
command = {
    "arguments": sys.argv[1:],
    "cwd": os.getcwd(),
    "env": dict(os.environ),
    "files": files,
    "ignored": ignored,
    "leads": leads,
}
with socket.socket(socket.AF_UNIX) as server:
    server.connect("\0" + os.environ["WARM_SERVER"])
    socket.send_fds(server, [b"."], files)
    server.sendall(json.dumps(command).encode() + b"\n")
    answers = server.makefile()
    pid = int(answers.readline())
    for number in set(SIGNALS) - set(ignored):
        signal.signal(number, lambda received, frame: send(pid, received))
    status = int(answers.readline())
if status < 0:
    if -status in SIGNALS:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
