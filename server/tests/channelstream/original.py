"""Starts the original, which expects names that newer Pythons have moved: python original.py FILE.ini"""

import collections
import collections.abc
import sys

for name in ("Mapping", "MutableMapping", "Sequence", "Iterable", "Callable", "Set"):
    if not hasattr(collections, name):
        setattr(collections, name, getattr(collections.abc, name))

from channelstream.cli import start  # noqa: E402
from channelstream import policy_server  # noqa: E402,F401

# Its Flash policy server would take a fixed port.
start.StreamServer = lambda *_: type("Nothing", (), {"start": lambda self: None})()
sys.argv = ["channelstream", "-i", sys.argv[1]]
start.main()
