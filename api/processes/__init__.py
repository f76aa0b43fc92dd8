"""The bodies of the processes: the API, the log's worker and its publisher. Each loads what it needs and no more."""
