"""The part that stands alone: accounts, transfers and the log's leaves. No import here, so that its pure half loads no
database driver."""
