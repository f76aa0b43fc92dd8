"""Signals of abuse 异常信号: found behind the log by rules that are documents, and reviewed by people."""
