"""Measurements and load over the HTTP API: `make bench` and `make load` (load_tests/README.md)."""
