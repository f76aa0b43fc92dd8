"""What a command begins with, and how it ends when it cannot go on: settings, a reason in two languages."""

from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from service.settings import PREFIX, Settings, UnsafeSettings

Json = Annotated[
    bool, typer.Option("--json", help="最后一行输出一个 JSON 对象。 End with one JSON object on the last line.")
]


def fail(zh: str, en: str) -> NoReturn:
    """Say why on standard error, and end with status 1."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]{escape(zh)}[/red]\n{escape(en)}")
    raise typer.Exit(1)


def read_settings() -> Settings:
    """The settings of the environment; ends the command when they cannot be used."""
    try:
        return Settings()
    except UnsafeSettings as error:
        fail("生产模式不接受这些设置：", str(error))
    except ValidationError as error:
        faults = [
            f"{PREFIX}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False)
            if fault["type"] != "default_factory_not_called"  # follows from another fault
        ]
        fail(
            "设置有误；`tanpuhui settings` 列出全部设置。",
            "\n".join([*faults, "`tanpuhui settings` lists every setting."]),
        )
