"""A tree of sources, and where its builds go: what is built from it, and how it is named.

Two trees never share a build directory at one time without their files being newer than what is in it: Cargo goes by
times, and would take one tree's artifacts for the other's.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "target" / "bench"
TOOLS = ROOT / "target" / "tools"


class Failure(Exception):
    """What ends the run, in a sentence."""


def say(line):
    print(line, flush=True)


@contextlib.contextmanager
def alone():
    """There is one worktree and one log, and two measurements at a time would disturb each other anyway."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure("Another measurement of this working tree is under way.") from None
        yield


def run_alone(name, main):
    """Ends the process with what `main` returns, or with one sentence."""
    try:
        with alone():
            sys.exit(main())
    except Failure as failure:
        sys.exit(f"{name}: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


def git(*args, **options):
    run = subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, **options)
    if run.returncode != 0:
        raise Failure(f"git {args[0]}: {run.stderr.strip()}")
    return run.stdout.strip()


def commit_of(name):
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except Failure:
        raise Failure(f"There is no commit {name}.") from None


@dataclass
class Checkout:
    root: Path
    build: Path
    commit: str

    @staticmethod
    def current():
        """What is in the working tree, committed or not."""
        dirty = "-dirty" if git("status", "--porcelain") else ""
        build = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        return Checkout(ROOT, ROOT / build, git("rev-parse", "HEAD") + dirty)

    @staticmethod
    def of(commit):
        """A commit, in a worktree made for it. The next one takes its place."""
        root = RESULTS / "worktree"
        drop_worktree()
        # Made now, every file is newer than what the last worktree left in the build directory.
        git("worktree", "add", "--quiet", "--detach", "--force", str(root), commit)
        return Checkout(root, RESULTS / "build", commit)

    @property
    def name(self):
        dirty = "-dirty" if self.commit.endswith("-dirty") else ""
        return self.commit[:12] + dirty

    def cargo(self, *args, environment=None, **options):
        """Runs cargo in the tree. Its standard output is returned, its messages are shown if it fails."""
        log = RESULTS / "cargo.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"CARGO_TARGET_DIR": str(self.build)} | (environment or {})
        with log.open("w") as messages:
            command = ["cargo", *args]
            run = subprocess.run(
                command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True, **options
            )
        if run.returncode != 0:
            sys.stderr.write(log.read_text()[-4000:] + run.stdout[-4000:])
            raise Failure(f"{self.name}: cargo {' '.join(args[:3])} failed.")
        return run.stdout

    def binary(self, package, name, folder):
        """Builds a release binary and keeps it in `folder`, where no other build touches it."""
        self.cargo("build", "--release", "--locked", "--package", package)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(self.build / "release" / name, folder / name))


def drop_worktree():
    if (RESULTS / "worktree").exists():
        git("worktree", "remove", "--force", str(RESULTS / "worktree"))
    git("worktree", "prune")
