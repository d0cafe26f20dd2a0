"""Instructions and heap of the core's paths: runs the bench `counts` of a checkout under Valgrind."""

import json
import os
import re
import shutil
import subprocess

from checkout import ROOT, TOOLS, Failure, say

METRICS = {
    "Ir": "instructions",
    "TotalBytes": "heap bytes",
    "TotalBlocks": "heap blocks",
    "MaximumBytes": "heap bytes at most",
}


def has_counts(checkout):
    manifest = checkout.root / "benches" / "Cargo.toml"
    return manifest.exists() and 'name = "counts"' in manifest.read_text()


def measure(checkout, folder):
    """Name of each figure, and its value. The profiles that callgrind and DHAT wrote stay in `folder`."""
    environment = {"GUNGRAUN_RUNNER": str(runner(checkout))}
    bench = ["bench", "--locked", "--package", "fanfare-benches", "--bench", "counts", "--features", "counts"]
    profiles = folder / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    out = checkout.cargo(*bench, "--", f"--home={profiles}", "--output-format=json", environment=environment)
    figures = {}
    for bench in map(json.loads, out.splitlines()):
        for profile in bench["profiles"]:
            for metric, values in profile["data"]["total"]["metrics"].items():
                if metric in METRICS:
                    name = f"{bench['function_name']}/{bench['id']} {METRICS[metric]}"
                    figures[name] = values["values"]["new"]
    if not figures:
        raise Failure(f"{checkout.name}: the bench counts gave no figures.")
    return figures


def runner(checkout):
    """gungraun's other half, of the version that the checkout's lock file names."""
    if not shutil.which("valgrind"):
        raise Failure("valgrind is missing; install it (Debian: apt-get install valgrind).")
    lock = (checkout.root / "Cargo.lock").read_text()
    version = re.search(r'name = "gungraun"\nversion = "(.+?)"', lock).group(1)
    root = TOOLS / f"gungraun-{version}"
    binary = root / "bin" / "gungraun-runner"
    if not binary.exists():
        say(f"counts: installing gungraun-runner {version} into {root.relative_to(ROOT)}")
        # A tool of the moment: it needs no long link.
        quick = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
        install = ["cargo", "install", "--quiet", "--locked", "--root", root, f"gungraun-runner@{version}"]
        if subprocess.run(install, env=os.environ | quick).returncode != 0:
            raise Failure("gungraun-runner could not be installed.")
    return binary
