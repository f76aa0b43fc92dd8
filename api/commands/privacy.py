"""`tanpuhui privacy`: what is done with what is kept of people."""

import typer

from api.commands.forgetting import erase_command, export_command
from api.commands.retaining import retain_command

app = typer.Typer(help="个人信息：保存期限等。 What is kept of people.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group, however many commands it has."""


app.command("retain")(retain_command)
app.command("export")(export_command)
app.command("erase")(erase_command)
