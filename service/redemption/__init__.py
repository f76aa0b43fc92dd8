"""Redemption 兑换: points buy benefits on green financial products. A hold, then captures, a release, refunds."""
