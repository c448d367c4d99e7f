"""How a peer program is driven, so that another program can alternate with it on the same machine.

It prints one JSON line when it is ready, saying what it is. Then it reads lines:

    step N      runs N steps, one after the other -> {"median_ms": ..., "ms": [...], "peak_rss_kib": ...}
    quit        ends, as does the end of input

A line that is neither, or a step that fails, is answered with {"error": ...}. Between lines it waits without using the processor.
"""

import json
import resource
import statistics
import sys
import time


def answer(**fields):
    print(json.dumps(fields), flush=True)


def serve(step, **about):
    """Calls `step` as often as it is asked to."""
    answer(ready=True, **about)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        if len(words) != 2 or words[0] != "step" or not words[1].isdecimal() or int(words[1]) == 0:
            answer(error=f"`{line.strip()}` is neither `step N`, N at least 1, nor `quit`")
            continue
        try:
            times = [measure(step) for _ in range(int(words[1]))]
        except Exception as error:  # the driver must hear of it, whatever it is
            answer(error=f"{type(error).__name__}: {error}")
            continue
        # Linux counts in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
        answer(median_ms=statistics.median(times), ms=times, peak_rss_kib=peak)


def measure(step):
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1e3


def positive(text):
    """An argument that must be a whole number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(text)
    return int(text)
