"""The command `tanpuhui`: every verb with a help text a newcomer understands.

A command's module is loaded when the command is run: whoever asks for a token does not wait for the whole platform to
be read.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

# By name: the module in api/commands, and what in it is the command or the group of commands.
_COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("platform", "demo"),
    "serve": ("platform", "serve"),
    "import": ("importing", "import_command"),
    "token": ("token", "token"),
    "client": ("client", "app"),
    "token-key": ("token_key", "app"),
    "quantify": ("quantify", "quantify"),
    "retract": ("retract", "retract"),
    "settle": ("settle", "settle"),
    "feed": ("feed", "feed_app"),
    "methodology": ("methodology", "app"),
    "manifest": ("manifest", "app"),
    "coverage": ("coverage", "coverage_app"),
    "elsewhere": ("coverage", "elsewhere_app"),
    "source": ("source", "app"),
    "product": ("product", "app"),
    "bank": ("banking", "app"),
    "statement": ("statement", "app"),
    "pool": ("pool", "app"),
    "signal": ("signal", "app"),
    "webhook": ("webhook", "app"),
    "receipt": ("receipt", "app"),
    "audit": ("audit", "app"),
    "ledger": ("ledger", "app"),
    "log": ("log", "app"),
    "witness": ("witness", "app"),
    "api": ("api_process", "api"),
    "worker": ("worker_process", "worker"),
    "publisher": ("publisher_process", "publisher"),
    "migrate": ("upkeep", "migrate_command"),
    "keyring": ("upkeep", "keyring_command"),
    "vault": ("vault", "app"),
    "privacy": ("privacy", "app"),
    "settings": ("upkeep", "settings_command"),
}


class _Loading(TyperGroup):
    """Commands that are loaded when they are asked for. Whatever one ends with that is not a bug is said in a sentence,
    with status 1; Ctrl-C is status 130."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if hasattr(error, "exit_code"):  # typer's own, which it says by itself
                raise
            import_module("api.commands.explaining").explain(error)


def _load(name: str) -> Any:
    module, attribute = _COMMANDS[name]
    found = getattr(import_module(f"api.commands.{module}"), attribute)
    if isinstance(found, typer.Typer):
        group = get_group(found)
        group.name = name
        return group
    alone = typer.Typer()
    alone.command(name)(found)
    alone.callback()(_group)
    return get_group(alone).commands[name]


def _group() -> None:
    """Of many commands: typer takes one without a callback for a command alone."""


app = typer.Typer(
    name="tanpuhui",
    cls=_Loading,
    help="碳普惠积分平台：让每一克减排、每一分积分都可核验。\n\n"
    "A carbon-inclusion points platform whose every gram and point can be checked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.callback()(_group)


if __name__ == "__main__":
    app()
