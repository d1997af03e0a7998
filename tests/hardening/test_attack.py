"""Attackers without a key, of every kind at once."""

import time
from pathlib import Path

from tests.hardening.attack import KINDS, attacked, client, keyed_service
from tests.hardening.soak import resident


def test_an_attack_leaves_the_client_with_a_key_alone(tmp_path: Path) -> None:
    with keyed_service(tmp_path) as (running, ports, pem), client(ports, pem) as ask_once:
        for _ in range(50):
            ask_once()
        before = most = resident(running.process.pid)
        with attacked(running, ports, pem, list(KINDS), 64):
            end = time.monotonic() + 6
            while time.monotonic() < end:
                ask_once()
                most = max(most, resident(running.process.pid))
        ask_once()
        print(f"{most - before:+.0f} MiB")
        assert most - before < 64
        assert running.terminate()[0] == 0
