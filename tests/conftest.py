"""Settings of every test: no example has a deadline, because machines are shared."""

from hypothesis import HealthCheck, settings

settings.register_profile("shared machines", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machines")
