"""What the comparisons have in common: their places on disk, and commands that answer in JSON."""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def argument_parser(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work-dir", type=Path, default=ROOT / "target" / "compare")
    parser.add_argument("--bin-dir", type=Path, default=ROOT / "target" / "release",
                        help="where streambus and loadgen are")
    return parser


def answer(command):
    """What a command prints as JSON, without what stands before it."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or "{" not in done.stdout:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def loadgen(args, broker, mode, *extra):
    """Its report of a load on a broker."""
    pid = f"--broker-pid={broker.process.pid}"
    return answer([str(args.bin_dir / "loadgen"), mode, f"--brokers={broker.address}", pid, "--json", *extra])
