"""Webhooks 事件推送: what the log says of a bank's redemptions, sent to the addresses that the bank names."""
