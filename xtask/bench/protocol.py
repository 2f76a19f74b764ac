"""A command a line in, a JSON object a line out (see README.md)."""

import json
import sys


def say(value):
    print(json.dumps(value), flush=True)


def memory():
    """The greatest and the present resident size of this process, in MiB."""
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    mib = lambda name: int(fields[name].split()[0]) / 1024
    return {"peak_mib": mib("VmHWM"), "resident_mib": mib("VmRSS")}


def serve(version, answer):
    """Answers each line of standard input with what `answer(words)` gives."""
    say({"ready": True, "version": version})
    for line in sys.stdin:
        say(answer(line.split()) | memory())


def job():
    """The job that the first argument names."""
    with open(sys.argv[1]) as file:
        return json.load(file)
