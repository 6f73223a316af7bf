"""Durable writes of the bare device: what a broker that waits for the disk cannot be faster than."""

import mmap
import os
import time

BLOCK_BYTES = 4096
FILE_BYTES = 16 << 20


def durable_write_percentiles(directory, seconds, rate=None):
    """Percentiles in µs of 4 KiB O_DIRECT|O_DSYNC writes, one at a time, over a file written before.

    With a rate, so many a second. One that is due while another is on its way is measured from when it was due, as
    loadgen does: a stall counts for all that were due in it.
    """
    path = directory / "device-probe"
    path.write_bytes(bytes(FILE_BYTES))
    handle = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
    block = mmap.mmap(-1, BLOCK_BYTES)  # page aligned, as O_DIRECT wants
    block.write(os.urandom(BLOCK_BYTES))
    times = []
    offset = 0
    deadline = time.monotonic() + seconds
    try:
        os.fsync(handle)
        begun = time.perf_counter_ns()
        while time.monotonic() < deadline:
            start = time.perf_counter_ns()
            if rate:
                due = begun + len(times) * 1_000_000_000 // rate
                if due > start:
                    time.sleep((due - start) / 1e9)
                    # What the sleep took too long is not the device's.
                    start = time.perf_counter_ns()
                else:
                    start = due
            os.pwrite(handle, block, offset)
            times.append((time.perf_counter_ns() - start) / 1e3)
            offset = (offset + BLOCK_BYTES) % FILE_BYTES
    finally:
        os.close(handle)
        path.unlink()
    times.sort()
    shares = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {name: times[int((len(times) - 1) * share)] for name, share in shares.items()}
