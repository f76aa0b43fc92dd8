"""The tables of schema `ledger`, as SQLAlchemy Core. The migrations create them; a test compares the two.
 Key families (docs/ledger.md): every table with `participant_id` has it in every key; `leaf_queue` and `leaf` belong to
the log; `log_head`, `fold_head`, `system_total`, `checkpoint`, `log_state` and the tables of seals have
one writer, behind the log.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

metadata = MetaData(schema="ledger")


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


account = Table(
    "account",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("programme", Text, nullable=False),
    Column("region", Text, nullable=False),
    _amount("counter"),
    *(_amount(f"{asset}_{name}") for asset in ("co2e", "points") for name in ("available", "pending", "held", "debt")),
    Column("next_expiry", Date),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("counter >= 0", name="account_counter_check"),
    postgresql_with={"fillfactor": 70},
)

bucket = Table(
    "bucket",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("expires_on", Date, primary_key=True),
    Column("available", BigInteger, nullable=False),
    CheckConstraint("available >= 0", name="bucket_available_check"),
    postgresql_with={"fillfactor": 70},
)

transfer = Table(
    "transfer",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("transfer_id", Uuid, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("programme", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("effective_on", Date, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("reverses", Uuid),
    Column("reason", Text),
    Column("matures", Uuid),
    Column("hold_id", Uuid),
    UniqueConstraint("participant_id", "counter", name="transfer_counter_key"),
)

reversed_transfer = Table(
    "reversed",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("transfer_id", Uuid, primary_key=True),
    Column("reversal_id", Uuid, nullable=False),
)

matured_transfer = Table(
    "matured",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("transfer_id", Uuid, primary_key=True),
    Column("maturity_id", Uuid, nullable=False),
)

hold = Table(
    "hold",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("hold_id", Uuid, primary_key=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("points_left", BigInteger, nullable=False),
    Column("co2e_left", BigInteger, nullable=False),
    Index("hold_open_index", "expires_at", postgresql_where=text("points_left > 0")),
    postgresql_with={"fillfactor": 70},
)

movement = Table(
    "movement",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("transfer_id", Uuid, primary_key=True),
    Column("line", SmallInteger, primary_key=True),
    Column("from_account", Text, nullable=False),
    Column("to_account", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("credit_class", Text),
    Column("vintage", SmallInteger),
    Column("expires_on", Date),
)

leaf_queue = Table(
    "leaf_queue",
    metadata,
    Column("queue_id", BigInteger, Identity(always=True), primary_key=True),
    Column("participant_id", Uuid),
    Column("transfer_id", Uuid),
    Column("leaf", LargeBinary, nullable=False),
)

leaf = Table(
    "leaf",
    metadata,
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("participant_id", Uuid),
    Column("transfer_id", Uuid),
    Column("leaf", LargeBinary, nullable=False),
    Index(
        "leaf_transfer_key",
        "participant_id",
        "transfer_id",
        unique=True,
        postgresql_where=text("transfer_id IS NOT NULL"),
    ),
)

log_head = Table(
    "log_head",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=text("true")),
    Column("size", BigInteger, nullable=False),
)

fold_head = Table(
    "fold_head",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=text("true")),
    Column("folded_to", BigInteger, nullable=False),
)

system_total = Table(
    "system_total",
    metadata,
    Column("programme", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("signed_at", DateTime(timezone=True), nullable=False),
)

log_state = Table(
    "log_state",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=text("true")),
    Column("epoch", Integer, nullable=False),
    Column("refused", Text),
)

seal = Table(
    "seal",
    metadata,
    Column("programme", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("participants", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("sealed_at", DateTime(timezone=True), nullable=False),
)

seal_head = Table(
    "seal_head",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=text("true")),
    Column("sealed_to", BigInteger, nullable=False),
)

sealed_account = Table(
    "sealed_account",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("programme", Text, nullable=False),
    Column("counter", BigInteger, nullable=False),
    *(_amount(f"{asset}_{name}") for asset in ("co2e", "points") for name in ("available", "pending", "held", "debt")),
    postgresql_with={"fillfactor": 70},
)

sealed_bucket = Table(
    "sealed_bucket",
    metadata,
    Column("participant_id", Uuid, primary_key=True),
    Column("expires_on", Date, primary_key=True),
    Column("available", BigInteger, nullable=False),
    postgresql_with={"fillfactor": 70},
)
