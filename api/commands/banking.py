"""The group `tanpuhui bank`, whole: the registry and signed calls, the simulated bank, and the certification run."""

from api.commands.bank import app
from api.commands.simulating import certify, simulate

app.command("simulate")(simulate)
app.command("certify")(certify)

__all__ = ["app"]
