"""Everything the process reads from outside: environment variables that begin with TANPUHUI_.

Settings are built once, at the start of a process, and then handed on. Values that would be unsafe in production are
refused together, each with what to do about it. The text beside each field, in both languages, is the reference.
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.keyring import readable_by_others

PREFIX = "TANPUHUI_"
DEVELOPMENT_ISSUER = "tanpuhui-development"
DEVELOPMENT_ORIGIN = "localhost/log"

Status = Literal["official", "group_standard", "platform_table", "demonstration"]
ALL_STATUSES: frozenset[Status] = frozenset({"official", "group_standard", "platform_table", "demonstration"})


_AUTHORITY = re.compile(r"(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::(?!80$|443$)[0-9]{1,5})?")  # as a signature covers it


class UnsafeSettings(Exception):
    """Production mode refuses to start; `faults` says what is wrong and what to do, one text each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("production mode refuses these settings:\n" + "\n".join(f"  - {fault}" for fault in faults))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a setting means, for the operator."""

    en: str
    zh: str
    default: str | None = None  # said instead of the value where the default depends on something


class Settings(BaseSettings):
    """Everything the process reads from outside. Built once, in create_app() or a main()."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # a mistyped URL may carry a password
    )

    mode: Annotated[
        Literal["development", "production"],
        Meaning(
            "development runs by itself on one machine; production refuses anything unsafe",
            "development 可在单机自行运行；production 拒绝一切不安全的设置",
        ),
    ] = "development"
    data_dir: Annotated[
        Path,
        Meaning(
            "where the embedded servers, development keys and metrics live", "内置数据库、开发密钥与指标文件所在目录"
        ),
    ] = Path(".data")
    database_url: Annotated[
        str | None,
        Field(repr=False, pattern=r"^postgres(ql)?://"),
        Meaning(
            "PostgreSQL 15 or newer, as postgresql://user:password@host:5432/name?sslmode=verify-full",
            "PostgreSQL 15 或更新版本的地址，形如 postgresql://user:password@host:5432/name?sslmode=verify-full",
            default="the embedded PostgreSQL, which the command starts / 由命令启动的内置 PostgreSQL",
        ),
    ] = None
    redis_url: Annotated[
        str | None,
        Field(repr=False, pattern=r"^(rediss?|unix)://"),
        Meaning(
            "a Redis 6.2 compatible server for rate limits; without one each process limits by itself",
            "用于限流的 Redis 6.2 兼容服务；没有时每个进程各自限流",
            default="the embedded server, which the command starts / 由命令启动的内置服务",
        ),
    ] = None
    host: Annotated[str, Meaning("address the API listens on", "接口监听地址")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535), Meaning("port the API listens on", "接口监听端口")] = 8000
    api_processes: Annotated[
        int,
        Field(ge=1, le=64),
        Meaning(
            "API processes that share the limits on this machine; `tanpuhui serve` starts as many",
            "本机共用限额的接口进程数；`tanpuhui serve` 即启动这么多",
        ),
    ] = 1

    jwks: Annotated[
        str | None,
        Meaning(
            "public keys that sign tokens: a JWKS file or an https:// address of one",
            "验证令牌所用的公钥：JWKS 文件路径，或其 https:// 地址",
            default="the development issuer's own, under data_dir / data_dir 下开发签发者的公钥",
        ),
    ] = None
    token_issuer: Annotated[
        str, Field(min_length=1), Meaning("the iss that every token must carry", "令牌必须携带的签发者 (iss)")
    ] = DEVELOPMENT_ISSUER
    token_audience: Annotated[
        str, Field(min_length=1), Meaning("the aud that every token must carry", "令牌必须携带的受众 (aud)")
    ] = "tanpuhui"
    oauth_issuer: Annotated[
        str,
        Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$", max_length=200),
        Meaning(
            "the platform's public address, as issuer of the tokens that its own token endpoint gives to machines",
            "本平台的公开地址，即其令牌端点向各客户端签发令牌时的签发者",
            default="http://host:port; production needs one of https:// / 生产环境须为 https:// 地址",
        ),
    ] = Field(default_factory=lambda values: f"http://{values.get('host')}:{values.get('port')}")
    public_authorities: Annotated[
        frozenset[str],
        NoDecode,
        Meaning(
            "host names, with the port where it is not the usual one, under which the platform is called, separated by "
            "commas: signed calls of banks and sources count for these alone",
            "本平台的公开主机名（非默认端口须注明），以逗号分隔：银行与数据方的签名请求仅对这些地址有效",
            default="development: any; production: that of oauth_issuer / 开发模式不限，生产模式为 oauth_issuer 的地址",
        ),
    ] = Field(default_factory=lambda values: _own_authority(values))
    token_key_file: Annotated[
        Path,
        Meaning(
            "the keys that sign the platform's own tokens, mode 0600, the same for every API process",
            "签发本平台令牌的私钥文件，权限 0600，各接口进程共用",
            default="data_dir/token.keys.json",
        ),
    ] = Field(default_factory=lambda values: values.get("data_dir", Path(".data")) / "token.keys.json")
    require_sender_constrained: Annotated[
        bool,
        Meaning(
            "take tokens of machines only from whoever shows the key they are bound to (DPoP)",
            "客户端令牌须绑定密钥并以 DPoP 出示",
            default="development: false; production: true",
        ),
    ] = Field(default_factory=lambda values: values.get("mode") == "production")
    two_person: Annotated[
        bool,
        Meaning(
            "what moves money or rules needs two operators: one proposes, another approves",
            "涉及资金与规则的操作须两人完成：一人提出，另一人批准",
            default="development: false; production: true",
        ),
    ] = Field(default_factory=lambda values: values.get("mode") == "production")
    citizen_issuer: Annotated[
        str | None,
        Field(pattern=r"^https?://[!-~]+$", max_length=200),
        Meaning(
            "the city's identity provider (OpenID Connect), by which citizens sign in: its issuer, exactly",
            "市民登录所用的身份认证服务 (OpenID Connect) 的签发者标识，须逐字相符",
            default="none: nobody signs in here / 无，即不提供市民登录",
        ),
    ] = None
    citizen_audience: Annotated[
        str | None,
        Field(min_length=1, max_length=200),
        Meaning(
            "the client id under which the identity provider issues ID tokens for this platform's apps",
            "身份认证服务为本平台应用签发 ID 令牌时的客户端标识",
            default="none / 无",
        ),
    ] = None
    consent_texts: Annotated[
        Path | None,
        Meaning(
            "what people agree to, in both languages: a YAML document with the terms and the texts of linking",
            "用户所同意的各项文本（中英文）：含使用条款与关联授权文本的 YAML 文档",
            default="the sample that ships / 随附的示例文本",
        ),
    ] = None
    keyring_file: Annotated[
        Path,
        Meaning(
            "versioned secret keys of event keys, subjects and cursors; kept apart from the database, mode 0600",
            "带版本的密钥文件，用于事件键、用户标识、指纹与分页游标；须与数据库分开存放，权限 0600",
            default="data_dir/keyring.json",
        ),
    ] = Field(default_factory=lambda values: values.get("data_dir", Path(".data")) / "keyring.json")

    vault_key_file: Annotated[
        Path,
        Meaning(
            "key-encryption keys of the vault: who has them and the database reads identities and evidence; kept apart "
            "from the database, mode 0600; the API alone needs them",
            "密钥库的密钥加密密钥文件：与数据库合在一起即可读取身份与凭据；须分开存放，权限 0600，仅接口进程需要",
            default="data_dir/vault.keys.json",
        ),
    ] = Field(default_factory=lambda values: values.get("data_dir", Path(".data")) / "vault.keys.json")

    retention_file: Annotated[
        Path | None,
        Meaning(
            "how many days each class of data is kept, where a deployment has its own: a YAML file of classes and days",
            "各类数据的保存天数（YAML 文件，列出类别与天数），用于覆盖缺省期限",
            default="none: as docs/privacy.md says / 无，按 docs/privacy.md",
        ),
    ] = None

    programme: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$"), Meaning("code of the programme", "碳普惠计划代码")
    ] = "demo"
    region: Annotated[
        str, Field(pattern=r"^[0-9]{6}$"), Meaning("GB/T 2260 code of the region", "行政区划代码 (GB/T 2260)")
    ] = "310000"
    allowed_statuses: Annotated[
        frozenset[Status],
        NoDecode,
        Field(min_length=1),
        Meaning(
            "statuses of methodologies that earn points here, separated by commas",
            "本部署允许计分的方法学状态，以逗号分隔",
            default="development: all; production: official,group_standard",
        ),
    ] = Field(default_factory=lambda values: _default_statuses(values.get("mode")))
    rules_dir: Annotated[
        Path | None,
        Meaning(
            "a deployment's own documents, read beside the shipped ones: methodologies/*.yaml, points/*.yaml and "
            "factor_sets/*.yaml",
            "本部署自有的规则文档目录，与随附文档一并读取：methodologies/*.yaml、points/*.yaml、factor_sets/*.yaml",
            default="none / 无",
        ),
    ] = None
    approvers_file: Annotated[
        Path | None,
        Meaning(
            "public keys of those who approve rules: a JSON file of keys with kid, role and person",
            "审批人公钥文件 (JSON)，每个公钥注明 kid、角色与人员代码",
            default="none: nothing can be approved / 无，即无法审批",
        ),
    ] = None
    require_approvals: Annotated[
        bool,
        Meaning(
            "credit only under documents that the competent authority and the technical body have both signed",
            "仅依据主管部门与技术机构均已签署的规则文档计分",
            default="development: false; production: true",
        ),
    ] = Field(default_factory=lambda values: values.get("mode") == "production")

    log_origin: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]*(/[A-Za-z0-9._~-]+)*$", max_length=200),
        Meaning(
            "name of the transparency log, for good: where its /log is served, without https://",
            "透明日志的名称，一经启用不得更改：即 /log 的公开地址，不含 https://",
        ),
    ] = DEVELOPMENT_ORIGIN
    log_dir: Annotated[
        Path,
        Meaning(
            "tiles, entry bundles and checkpoints of the log; the publisher writes them, the API serves them",
            "透明日志的分片、条目包与检查点目录：由发布进程写入，接口只读",
            default="data_dir/log",
        ),
    ] = Field(default_factory=lambda values: values.get("data_dir", Path(".data")) / "log")
    log_key_file: Annotated[
        Path,
        Meaning(
            "the log's signing key, mode 0600; only the publisher may read it",
            "日志签名私钥文件，权限 0600，仅发布进程可读",
            default="data_dir/log.key",
        ),
    ] = Field(default_factory=lambda values: values.get("data_dir", Path(".data")) / "log.key")
    entitlement_key_file: Annotated[
        Path,
        Meaning(
            "the key that signs entitlements for banks, mode 0600, the same for every API process",
            "签发银行兑换凭证的私钥文件，权限 0600，各接口进程共用",
            default="data_dir/entitlement.key",
        ),
    ] = Field(default_factory=lambda values: values.get("data_dir", Path(".data")) / "entitlement.key")
    guard_file: Annotated[
        Path,
        Meaning(
            "the fork guard: what was last signed; kept outside data_dir and outside the database's backups",
            "防分叉记录：最近一次签署的检查点；须放在 data_dir 与数据库备份之外",
            default="beside data_dir: its name and .guard / 与 data_dir 同级，其名加 .guard",
        ),
    ] = Field(default_factory=lambda values: _beside(values.get("data_dir", Path(".data"))))
    checkpoint_interval_ms: Annotated[
        int,
        Field(ge=100, le=3_600_000),
        Meaning("pause between two checkpoints of a log that grows", "日志增长时两次检查点之间的间隔（毫秒）"),
    ] = 1_000
    witness_policy: Annotated[
        Path | None,
        Meaning(
            "a witness policy: the file that says who is asked to cosign checkpoints, and how many must",
            "见证策略文件：由谁为检查点联合签名，须有几方",
            default="none: nobody is asked / 无，即不请见证方",
        ),
    ] = None
    witness_timeout_ms: Annotated[
        int,
        Field(ge=100, le=30_000),
        Meaning(
            "longest wait for witnesses; a checkpoint is then shown without the quorum",
            "等待见证方的最长时间（毫秒），超过即先行公布未达法定数的检查点",
        ),
    ] = 2_000

    tls_certificate: Annotated[
        Path | None,
        Meaning(
            "certificate chain in PEM: the API then speaks TLS by itself, 1.2 or newer",
            "PEM 证书链文件；设置后接口自行启用 TLS（1.2 或更高）",
            default="none: TLS ends in a proxy before it / 无，即由前置代理终止 TLS",
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        Meaning("its private key in PEM, mode 0600", "该证书的私钥文件 (PEM)，权限 0600", default="none / 无"),
    ] = None
    max_connections: Annotated[
        int,
        Field(ge=16, le=1_000_000),
        Meaning("connections one API process keeps open; further ones are closed", "单个接口进程的最大连接数"),
    ] = 10_000
    request_timeout_s: Annotated[
        int,
        Field(ge=1, le=600),
        Meaning(
            "how long a request's headers may take to arrive; its body has as long, and a second more for each 4 KiB",
            "请求头到达的最长时间（秒）；请求体同此，且每 4 KiB 另加一秒",
        ),
    ] = 20

    max_body_bytes: Annotated[
        int, Field(ge=1024, le=64 * 2**20), Meaning("largest request body, in bytes", "请求体上限（字节）")
    ] = 2 * 2**20
    max_batch_items: Annotated[
        int, Field(ge=1, le=1000), Meaning("most events in one batch", "单个批次的最多事件数")
    ] = 1000
    poster_queue_items: Annotated[
        int,
        Field(ge=1),
        Meaning(
            "activities that may wait for posting in one process before it answers 503",
            "单进程等待入账的上限，超出即返回 503",
        ),
    ] = 20_000
    poster_lanes: Annotated[
        int, Field(ge=1, le=16), Meaning("batches one process posts at the same time", "单进程同时入账的批次数")
    ] = 4

    rate_requests_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Meaning("requests a client may send each second, lasting", "每个客户端每秒持续允许的请求数"),
    ] = 10_000
    rate_requests_burst: Annotated[
        int, Field(ge=1), Meaning("requests a client may send at once", "每个客户端允许的突发请求数")
    ] = 20_000
    rate_items_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Meaning("activities a client may send each second, lasting", "每个客户端每秒持续允许的行为条数"),
    ] = 20_000
    rate_items_burst: Annotated[
        int, Field(ge=1), Meaning("activities a client may send at once", "每个客户端允许的突发行为条数")
    ] = 40_000
    participant_requests_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Meaning("requests a participant may send each second, lasting", "每位参与者每秒持续允许的请求数"),
    ] = 50
    participant_requests_burst: Annotated[
        int, Field(ge=1), Meaning("requests a participant may send at once", "每位参与者允许的突发请求数")
    ] = 500
    participant_items_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Meaning("steps a participant may take with points each second, lasting", "每位参与者每秒持续允许的积分操作数"),
    ] = 20
    participant_items_burst: Annotated[
        int,
        Field(ge=1),
        Meaning("steps a participant may take with points at once", "每位参与者允许的突发积分操作数"),
    ] = 200
    address_requests_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Meaning(
            "requests without a valid token from one network address each second, lasting; a refused token counts five",
            "同一网络地址每秒持续允许的无有效令牌请求数；令牌被拒计五次",
        ),
    ] = 500
    address_requests_burst: Annotated[
        int,
        Field(ge=1),
        Meaning("such requests from one network address at once", "同一网络地址允许的突发无有效令牌请求数"),
    ] = 5_000
    trusted_proxies: Annotated[
        tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
        NoDecode,
        Meaning(
            "networks of your own proxies, separated by commas: from them alone X-Forwarded-For and X-Forwarded-Proto "
            "are believed",
            "自有代理所在网段，以逗号分隔；仅采信来自这些网段的 X-Forwarded-For 与 X-Forwarded-Proto",
            default="none / 无",
        ),
    ] = ()
    redis_timeout_ms: Annotated[
        int,
        Field(ge=1, le=5000),
        Meaning(
            "longest wait for Redis before a process limits by itself", "等待 Redis 的最长时间，超过即改为进程内限流"
        ),
    ] = 50
    redis_retry_ms: Annotated[
        int, Field(ge=10), Meaning("pause before Redis is tried again after a failure", "Redis 失败后再次尝试前的间隔")
    ] = 1000

    clock_offset: Annotated[
        timedelta, Meaning("moves the platform's clock, in seconds; for tests only", "平移平台时钟（秒），仅供测试")
    ] = timedelta(0)
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meaning("least severe log line written", "写出的最低日志级别")
    ] = "info"
    log_every: Annotated[
        int,
        Field(ge=1),
        Meaning(
            "write one log line for this many successful requests; others are always written",
            "每多少个成功请求写一行日志；失败请求总会写",
        ),
    ] = 1
    problem_base: Annotated[
        str,
        Field(pattern=r"^(urn:|https?://)\S+$"),
        Meaning("what the address of every problem type begins with", "每个错误类型标识的前缀"),
    ] = "urn:tanpuhui:problem:"

    @field_validator("allowed_statuses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return frozenset(filter(None, value.replace(" ", "").split(","))) if isinstance(value, str) else value

    @field_validator("public_authorities", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        named = frozenset(filter(None, value.lower().replace(" ", "").split(","))) if isinstance(value, str) else value
        for name in named if isinstance(named, frozenset) else ():
            if not _AUTHORITY.fullmatch(name):
                raise ValueError(f"expected names such as carbon.example, a port only if not 80 or 443; got {name!r}")
        return named

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return tuple(filter(None, value.replace(" ", "").split(","))) if isinstance(value, str) else value

    @field_validator("clock_offset", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rate_items_burst < self.max_batch_items * self.api_processes:
            # a process alone grants its share of the burst, and one full batch must pass even then
            raise ValueError(
                f"rate_items_burst is {self.rate_items_burst}, expected at least max_batch_items x api_processes = "
                f"{self.max_batch_items * self.api_processes}: raise it"
            )
        if (self.citizen_issuer is None) != (self.citizen_audience is None):
            raise ValueError("citizen_issuer and citizen_audience are set together, or neither is")
        if self.rate_requests_burst < self.api_processes:
            raise ValueError(
                f"rate_requests_burst is {self.rate_requests_burst}, expected at least api_processes: raise it"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both, or neither")
        faults = production_faults(self) if self.mode == "production" else []
        if faults:
            raise UnsafeSettings(faults)
        return self


def production_faults(settings: Settings) -> list[str]:
    """Everything in these settings that production mode refuses, each with what to do; empty when safe."""
    faults = [*_engine_faults(settings), *_token_faults(settings), *_keyring_faults(settings.keyring_file)]
    faults += _log_faults(settings)
    if "demonstration" in settings.allowed_statuses:
        faults.append(
            "demonstration methodologies earn no real points: take demonstration out of TANPUHUI_ALLOWED_STATUSES"
        )
    if not settings.require_approvals:
        faults.append(
            "rules that nobody approved earn no real points: take TANPUHUI_REQUIRE_APPROVALS out, or set it to true"
        )
    if settings.clock_offset:
        faults.append("TANPUHUI_CLOCK_OFFSET is for tests: remove it")
    return faults


def _engine_faults(settings: Settings) -> list[str]:
    faults = []
    if settings.database_url is None:
        faults.append("the embedded PostgreSQL is for development: set TANPUHUI_DATABASE_URL to a server of your own")
    else:
        open_hosts = _hosts_without_tls(settings.database_url)
        if open_hosts:
            faults.append(
                f"TANPUHUI_DATABASE_URL reaches {', '.join(open_hosts)} without TLS that proves who answers: add "
                "sslmode=verify-full"
            )
    if settings.redis_url is None:
        faults.append(
            "the embedded Redis-compatible server is for development: set TANPUHUI_REDIS_URL to your own server"
        )
    elif settings.redis_url.startswith("redis://") and not _is_this_machine(urlsplit(settings.redis_url).netloc):
        faults.append("TANPUHUI_REDIS_URL crosses the network in the clear: give it a rediss:// address")
    if settings.tls_key is not None and settings.tls_key.is_file() and readable_by_others(settings.tls_key):
        faults.append(f"the key {settings.tls_key} may be read by every user of this machine: chmod 600 it")
    return faults


def _token_faults(settings: Settings) -> list[str]:
    faults = []
    if settings.token_issuer == DEVELOPMENT_ISSUER:
        faults.append(
            f"whoever has this machine issues tokens as {DEVELOPMENT_ISSUER}: set TANPUHUI_TOKEN_ISSUER to your issuer"
        )
    if settings.jwks is None:
        faults.append(
            "the development issuer's keys lie on this machine: set TANPUHUI_JWKS to your issuer's JWKS file or address"
        )
    elif settings.jwks.startswith("http://"):
        faults.append("keys fetched over http:// can be replaced on the way: give TANPUHUI_JWKS an https:// address")
    elif not settings.jwks.startswith("https://") and not Path(settings.jwks).is_file():
        faults.append(f"TANPUHUI_JWKS names no file: put the issuer's JWKS at {settings.jwks}")
    if not settings.oauth_issuer.startswith("https://"):
        faults.append("tokens are asked for in the clear: set TANPUHUI_OAUTH_ISSUER to the platform's https:// address")
    if settings.citizen_issuer is not None:
        faults += _citizen_faults(settings)
    if not settings.two_person:
        faults.append("one operator alone could move money: take TANPUHUI_TWO_PERSON out, or set it to true")
    return faults


def _citizen_faults(settings: Settings) -> list[str]:
    faults = []
    if not str(settings.citizen_issuer).startswith("https://"):
        faults.append(
            "whoever is on the way could sign in as anybody: set TANPUHUI_CITIZEN_ISSUER to an https:// address"
        )
    if settings.consent_texts is None:
        faults.append("the sample texts are nobody's terms: set TANPUHUI_CONSENT_TEXTS to your own")
    elif not settings.consent_texts.is_file():
        faults.append(f"TANPUHUI_CONSENT_TEXTS names no file: put the texts at {settings.consent_texts}")
    return faults


def _keyring_faults(keyring: Path) -> list[str]:
    if not keyring.is_file():
        return [f"no keyring at {keyring}: put the platform's keyring there, mode 0600 (TANPUHUI_KEYRING_FILE)"]
    if readable_by_others(keyring):
        return [f"the keyring {keyring} may be read by every user of this machine: chmod 600 it"]
    return []


def _log_faults(settings: Settings) -> list[str]:
    faults = []
    if settings.log_origin == DEVELOPMENT_ORIGIN:
        faults.append("the log has no name of its own: set TANPUHUI_LOG_ORIGIN to where /log is served, for good")
    guard, data = settings.guard_file.absolute(), settings.data_dir.absolute()
    if guard.is_relative_to(data):
        faults.append(
            f"the guard {guard} would be restored together with {data}: put TANPUHUI_GUARD_FILE outside of it, on "
            "another disk if there is one"
        )
    return faults


def _beside(data_dir: Path) -> Path:
    absolute = data_dir.absolute()
    return absolute.with_name(f"{absolute.name}.guard")


def _hosts_without_tls(url: str) -> list[str]:
    """Hosts in a libpq-style URL that are reached over the network without a certificate that is checked for their
    name: whoever stands between would answer as well. Sockets and this machine are fine."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if query.get("sslmode", query.get("ssl", ["disable"]))[-1] == "verify-full":
        return []
    authority = parts.netloc.rpartition("@")[2]
    named = [host for entry in (authority, *query.get("host", [])) for host in unquote(entry).split(",") if host]
    return [host for host in named if not _is_this_machine(host)]


def _is_this_machine(host: str) -> bool:
    if host.startswith("/"):
        return True
    host = host.rpartition("@")[2]
    name = host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _own_authority(values: dict[str, Any]) -> frozenset[str]:
    if values.get("mode") != "production":
        return frozenset()
    return frozenset({urlsplit(str(values.get("oauth_issuer")).lower()).netloc.removesuffix(":443")})


def _default_statuses(mode: Any) -> frozenset[Status]:
    return frozenset({"official", "group_standard"}) if mode == "production" else ALL_STATUSES


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One row of the settings reference."""

    variable: str
    default: str
    en: str
    zh: str


def describe_settings() -> list[SettingDescription]:
    """Every setting with its environment variable, default and meaning, in the order they stand above."""
    rows = []
    for name, field in Settings.model_fields.items():
        meaning = next(item for item in field.metadata if isinstance(item, Meaning))
        default = meaning.default or _shown(field.default)
        rows.append(SettingDescription(PREFIX + name.upper(), default, meaning.en, meaning.zh))
    return rows


def _shown(default: object) -> str:
    return f"{default.total_seconds():.0f}" if isinstance(default, timedelta) else str(default)
