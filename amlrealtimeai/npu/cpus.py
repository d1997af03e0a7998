"""How many CPUs there are to share out among threads."""

import os


def usable_cpus() -> int:
    """CPUs that this process may run on: containers and classrooms get fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
