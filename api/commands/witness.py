"""`tanpuhui witness`: a small witness of one's own, for partners who watch that a log keeps one history."""

import sys
import time
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn

from api.commands.environment import fail
from ledger.errors import NoteInvalid
from ledger.notes import VerifierKey, parse_verifier
from service.witness.app import witness_app
from service.witness.keys import create_witness_key, load_witness_key
from service.witness.memory import Memory, WitnessUnusable
from service.witness.witness import Witness

app = typer.Typer(help="见证方：为日志检查点联合签名。 A witness that cosigns checkpoints.", no_args_is_help=True)
_key_app = typer.Typer(help="见证方密钥。 The key that a witness signs with.", no_args_is_help=True)
app.add_typer(_key_app, name="key")

Directory = Annotated[
    Path, typer.Option("--dir", help="见证方目录：密钥与所见检查点。 Its folder: the key, and what it has seen.")
]


@_key_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="见证方名称，如 bank.example/witness。 The witness's name, for good.")],
    directory: Directory = Path("witness"),
) -> None:
    """生成见证方密钥。 Make a witness's key.

    输出供平台写入见证策略的一行；私钥留在本机。 Prints the line for the platform's witness policy; the key stays here.
    """
    try:
        signer = create_witness_key(directory, name)
    except (OSError, NoteInvalid, WitnessUnusable) as error:
        fail("无法生成密钥，原因见下。", str(error))
    typer.echo(f"witness {name} {signer.verifier}")


@app.command()
def serve(
    log: Annotated[
        list[str], typer.Option(help="日志公钥，或存有公钥的文件；可重复。 A log's verifier key, or a file of them.")
    ],
    directory: Directory = Path("witness"),
    host: Annotated[str, typer.Option(help="监听地址。 Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="监听端口。 Port to listen on.")] = 8090,
) -> None:
    """运行见证方。 Run the witness.

    只为承接其所见历史的检查点签名；所见先存盘，后答复。

    Cosigns a checkpoint only if the log goes on from the one it saw before; what it saw is on the disk before it
    answers.
    """
    memory = Memory(directory)
    try:
        witness = Witness(load_witness_key(directory), [key for text in log for key in _log_keys(text)], memory)
        with memory.held():
            witness.require_memory()
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
            typer.echo(f"{witness.signer.verifier}", err=True)
            config = uvicorn.Config(
                witness_app(witness, time.time),
                host=host,
                port=port,
                access_log=False,
                log_level="warning",
                server_header=False,
                limit_concurrency=100,
                timeout_graceful_shutdown=10,
            )
            uvicorn.Server(config).run()
    except (NoteInvalid, WitnessUnusable) as error:
        fail("见证方无法运行，原因见下。", str(error))


def _log_keys(text: str) -> list[VerifierKey]:
    try:
        texts = Path(text).read_text("utf-8").split() if "+" not in text else [text]
    except (OSError, UnicodeDecodeError) as error:
        fail(f"无法读取日志公钥 {text}：{error}", f"{text} is no verifier key, and no file of one: {error}")
    return [parse_verifier(line) for line in texts]
