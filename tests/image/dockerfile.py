"""What the Dockerfile says, for the checks that hold other things against it."""

import json
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def stages():
    """The stages, each a list of (instruction, rest of the line)."""
    found = []
    for line in (REPOSITORY / "Dockerfile").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest.strip()))
    return found


def values(stage, instruction):
    """What one instruction is given in a stage, each time that it is there."""
    return [rest for name, rest in stage if name == instruction]


def build_steps():
    """The commands of the build stage, in order."""
    return values(stages()[0], "RUN")


def context():
    """The paths that .dockerignore lets into the build: it refuses all and then lists them."""
    lines = [
        line
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    if lines[0] != "*" or not all(line.startswith("!") for line in lines[1:]):
        raise SystemExit(".dockerignore is not a list of what may pass: '*', then lines that begin with '!'")
    return [line[1:] for line in lines[1:]]


class Image:
    """What the final stage makes of the image."""

    def __init__(self):
        self.stage = stages()[-1]
        self.base = self._one("FROM")
        self.copies = [shlex.split(copy) for copy in values(self.stage, "COPY")]
        self.user, _, self.group = self._one("USER").partition(":")
        self.ports = {int(port) for port in self._one("EXPOSE").split()}
        self.entry_point = self._words("ENTRYPOINT")
        self.arguments = self._words("CMD")

    def _words(self, instruction):
        try:
            return json.loads(self._one(instruction))
        except ValueError:
            raise SystemExit(f"{instruction} is a line for a shell, and the image has none: write a list") from None

    def _one(self, instruction):
        found = values(self.stage, instruction)
        if len(found) != 1:
            raise SystemExit(f"the Dockerfile's final stage has {len(found)} {instruction}, and not one")
        return found[0]
