"""Runs the image's root as a container engine does: nothing in it but what the image has and what an engine adds
(/etc/hosts, /etc/resolv.conf and the mounted files), read-only, as the image's user, without any capability.

bubblewrap does it, started as that user, so that the user's rights are real ones and not a namespace's.
"""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

from dockerfile import Image

IMAGE = Image()


class EmptyRoot:
    """A copy of the image's root with the mount points in it, since an engine makes those too."""

    def __init__(self, image_root, scratch, hosts, nameserver, emulator=None):
        self.root = Path(scratch) / "root"
        shutil.copytree(image_root, self.root)
        (self.root / "etc/hosts").write_text(hosts)
        (self.root / "etc/resolv.conf").write_text(f"nameserver {nameserver}\noptions timeout:2\n")
        # An engine of another architecture has its emulator outside of the image; here it is beside it.
        self.emulator = []
        if emulator:
            shutil.copy(emulator, self.root / "emulator")
            self.emulator = ["/emulator"]
        self.mounts = []

    def mount(self, directory, at):
        """Mounts a directory, read-only."""
        (self.root / at.lstrip("/")).mkdir(parents=True)
        self.mounts += ["--ro-bind", str(directory), at]

    def command(self, arguments, environment):
        """The image's entry point with these arguments."""
        as_user = []
        if os.geteuid() == 0:
            as_user = ["setpriv", f"--reuid={IMAGE.user}", f"--regid={IMAGE.group}", "--clear-groups"]
        variables = [word for item in environment.items() for word in ("--setenv", *item)]
        return [
            *as_user,
            *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL"),
            *("--uid", IMAGE.user, "--gid", IMAGE.group, "--new-session", "--die-with-parent", "--clearenv"),
            *variables,
            *("--ro-bind", str(self.root), "/", *self.mounts, "--"),
            *self.emulator,
            *IMAGE.entry_point,
            *arguments,
        ]

    def run(self, arguments, environment=None):
        """Runs a command to its end, and returns what it wrote."""
        done = subprocess.run(
            self.command(arguments, environment or {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.stdout

    @contextmanager
    def start(self, arguments, environment, log):
        """Runs a command until the block ends."""
        with open(log, "wb") as output:
            process = subprocess.Popen(
                self.command(arguments, environment), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield process
        finally:
            # bubblewrap takes what it runs along.
            process.send_signal(signal.SIGKILL)
            process.wait()


def inner_process(bubblewrap):
    """The id, seen from here, of the image's own process: the last of bubblewrap's line of children."""
    process = bubblewrap
    while children := Path(f"/proc/{process}/task/{process}/children").read_text().split():
        process = int(children[-1])
    return process
