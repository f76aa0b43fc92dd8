"""Groups of commands of `tanpuhui`, one module each; api/cli.py puts them together."""
