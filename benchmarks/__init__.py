"""Measurements, each printing one table; none is a test. `make bench` runs them all."""
