"""Recompute every projection from the journal and list what differs. Nothing is repaired: a difference is a bug or a
tampering to explain."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from ledger.errors import LeafInvalid
from ledger.journal import KINDS
from ledger.leaf_reading import read_leaf

_PARTICIPANT_SIDES = """
    sided AS (
        SELECT m.participant_id, m.asset, s.account, s.change, m.expires_on FROM ledger.movement m,
        LATERAL (VALUES (m.to_account, m.amount), (m.from_account, -m.amount)) AS s (account, change)
        WHERE s.account IN ('available', 'pending', 'held', 'debt')
    )
"""

# Each query returns one row per difference: what it is about, what is stored, what the journal says.
_DIFFERENCES: dict[str, str] = {
    "account balance": f"""
        WITH {_PARTICIPANT_SIDES}, expected AS (
            SELECT participant_id, asset, account, sum(change) * CASE account WHEN 'debt' THEN -1 ELSE 1 END AS amount
            FROM sided GROUP BY participant_id, asset, account
        ), stored AS (
            SELECT a.participant_id, v.asset, v.account, v.amount FROM ledger.account a, LATERAL (VALUES
                ('co2e_mg', 'available', co2e_available), ('points', 'available', points_available),
                ('co2e_mg', 'pending', co2e_pending), ('points', 'pending', points_pending),
                ('co2e_mg', 'held', co2e_held), ('points', 'held', points_held),
                ('co2e_mg', 'debt', co2e_debt), ('points', 'debt', points_debt)) AS v (asset, account, amount)
        )
        SELECT participant_id || ' ' || asset || ' ' || account AS about, coalesce(s.amount, 0)::text AS stored,
               coalesce(e.amount, 0)::text AS journal
        FROM stored s FULL JOIN expected e USING (participant_id, asset, account)
        WHERE coalesce(s.amount, 0) <> coalesce(e.amount, 0)
    """,
    "bucket": f"""
        WITH {_PARTICIPANT_SIDES}, expected AS (
            SELECT participant_id, expires_on, sum(change) AS amount FROM sided
            WHERE account = 'available' AND asset = 'points' GROUP BY participant_id, expires_on
        )
        SELECT participant_id || ' ' || coalesce(expires_on::text, 'without a day') AS about,
               coalesce(b.available, 0)::text AS stored, coalesce(e.amount, 0)::text AS journal
        FROM ledger.bucket b FULL JOIN expected e USING (participant_id, expires_on)
        WHERE coalesce(b.available, 0) <> coalesce(e.amount, 0)
    """,
    "next expiry": """
        SELECT a.participant_id::text AS about, coalesce(a.next_expiry::text, 'none') AS stored,
            min(b.expires_on)::text AS journal
        FROM ledger.account a JOIN ledger.bucket b USING (participant_id) WHERE b.available > 0
        GROUP BY a.participant_id HAVING a.next_expiry IS NULL OR a.next_expiry > min(b.expires_on)
    """,
    "counter": """
        SELECT participant_id::text AS about, coalesce(a.counter, 0)::text AS stored,
               format('%s transfers, highest %s', count(t.transfer_id), max(t.counter)) AS journal
        FROM ledger.account a FULL JOIN ledger.transfer t USING (participant_id)
        GROUP BY participant_id, a.counter
        HAVING coalesce(a.counter, 0) <> count(t.transfer_id) OR coalesce(a.counter, 0) <> coalesce(max(t.counter), 0)
    """,
    "transfer without lines": """
        SELECT t.participant_id || ' ' || t.transfer_id AS about, 'transfer' AS stored, 'no line' AS journal
        FROM ledger.transfer t LEFT JOIN ledger.movement m USING (participant_id, transfer_id)
        WHERE m.transfer_id IS NULL
    """,
    "line without transfer": """
        SELECT m.participant_id || ' ' || m.transfer_id AS about, 'line' AS stored, 'no transfer' AS journal
        FROM ledger.movement m LEFT JOIN ledger.transfer t USING (participant_id, transfer_id)
        WHERE t.transfer_id IS NULL
    """,
    "reversed": """
        SELECT coalesce(t.participant_id, r.participant_id) || ' ' || coalesce(t.reverses, r.transfer_id) AS about,
               coalesce(r.reversal_id::text, 'not reversed by it') AS stored,
               CASE WHEN t.transfer_id IS NULL THEN 'no such reversal or refund'
                    ELSE format('%s of the %s %s', t.transfer_id, coalesce(c.kind, 'unknown'), t.reverses)
               END AS journal
        FROM (SELECT * FROM ledger.transfer WHERE reverses IS NOT NULL) AS t
        FULL JOIN ledger.reversed r
            ON (r.participant_id, r.transfer_id, r.reversal_id) = (t.participant_id, t.reverses, t.transfer_id)
        LEFT JOIN ledger.transfer c ON (c.participant_id, c.transfer_id) = (t.participant_id, t.reverses)
        WHERE t.transfer_id IS NULL OR r.reversal_id IS NULL OR c.counter >= t.counter
           OR c.kind IS DISTINCT FROM CASE t.kind WHEN 'refund' THEN 'capture' ELSE 'credit' END
    """,
    "matured": """
        SELECT coalesce(t.participant_id, m.participant_id) || ' ' || coalesce(t.matures, m.transfer_id) AS about,
               coalesce(m.maturity_id::text, 'not matured by it') AS stored,
               CASE WHEN t.transfer_id IS NULL THEN 'no such maturity'
                    ELSE format('%s of the %s %s%s', t.transfer_id, coalesce(c.kind, 'unknown'), t.matures,
                        CASE WHEN r.counter < t.counter THEN ', which was reversed before' END)
               END AS journal
        FROM (SELECT * FROM ledger.transfer WHERE matures IS NOT NULL) AS t
        FULL JOIN ledger.matured m
            ON (m.participant_id, m.transfer_id, m.maturity_id) = (t.participant_id, t.matures, t.transfer_id)
        LEFT JOIN ledger.transfer c ON (c.participant_id, c.transfer_id) = (t.participant_id, t.matures)
        LEFT JOIN ledger.reversed taken ON (taken.participant_id, taken.transfer_id) = (t.participant_id, t.matures)
        LEFT JOIN ledger.transfer r ON (r.participant_id, r.transfer_id) = (taken.participant_id, taken.reversal_id)
        WHERE t.transfer_id IS NULL OR m.maturity_id IS NULL OR c.kind IS DISTINCT FROM 'credit'
           OR c.counter >= t.counter OR r.counter < t.counter
    """,
    # What a credit left pending leaves it once: by its maturity, else by its reversal.
    "pending": """
        WITH moved AS (
            SELECT participant_id, transfer_id, asset, credit_class, vintage,
                   sum(amount) FILTER (WHERE to_account = 'pending') AS came,
                   sum(amount) FILTER (WHERE from_account = 'pending') AS went
            FROM ledger.movement WHERE from_account = 'pending' OR to_account = 'pending'
            GROUP BY participant_id, transfer_id, asset, credit_class, vintage
        ), closing AS (
            SELECT t.participant_id, t.transfer_id, coalesce(t.matures, t.reverses) AS credit_id FROM ledger.transfer t
            WHERE t.kind = 'maturity' OR t.kind = 'reversal' AND NOT EXISTS (
                SELECT FROM ledger.matured m WHERE (m.participant_id, m.transfer_id) = (t.participant_id, t.reverses))
        ), expected AS (
            SELECT c.participant_id, c.transfer_id, m.asset, m.credit_class, m.vintage, m.came
            FROM closing c JOIN moved m ON (m.participant_id, m.transfer_id) = (c.participant_id, c.credit_id)
            WHERE m.came IS NOT NULL
        ), found AS (
            SELECT participant_id, transfer_id, asset, credit_class, vintage, went FROM moved WHERE went IS NOT NULL
        )
        SELECT concat_ws(' ', participant_id, transfer_id, asset) AS about,
               concat_ws(' ', coalesce(f.went, 0), f.credit_class, f.vintage) AS stored,
               concat_ws(' ', coalesce(e.came, 0), e.credit_class, e.vintage) AS journal
        FROM expected e FULL JOIN found f USING (participant_id, transfer_id, asset)
        WHERE (e.came, e.credit_class, e.vintage) IS DISTINCT FROM (f.went, f.credit_class, f.vintage)
    """,
    "returned": """
        WITH given AS (
            SELECT t.participant_id, t.transfer_id, m.asset, m.credit_class, m.vintage, m.from_account AS account,
                   sum(m.amount) AS amount
            FROM ledger.transfer t
            JOIN ledger.movement m ON (m.participant_id, m.transfer_id) = (t.participant_id, t.reverses)
            WHERE t.kind = 'reversal' GROUP BY 1, 2, 3, 4, 5, 6
        ), returned AS (
            SELECT t.participant_id, t.transfer_id, m.asset, m.credit_class, m.vintage, m.to_account AS account,
                   sum(m.amount) AS amount
            FROM ledger.transfer t JOIN ledger.movement m USING (participant_id, transfer_id)
            WHERE t.kind = 'reversal' GROUP BY 1, 2, 3, 4, 5, 6
        )
        SELECT concat_ws(' ', participant_id, transfer_id, asset, account) AS about,
               concat_ws(' ', coalesce(r.amount, 0), r.credit_class, r.vintage) AS stored,
               concat_ws(' ', coalesce(g.amount, 0), g.credit_class, g.vintage) AS journal
        FROM given g FULL JOIN returned r USING (participant_id, transfer_id, asset, account)
        WHERE (g.amount, g.credit_class, g.vintage) IS DISTINCT FROM (r.amount, r.credit_class, r.vintage)
    """,
    # A refund returns what its capture took, from where it went, each bucket's to that bucket.
    "refunded": """
        WITH taken AS (
            SELECT t.participant_id, t.transfer_id, m.asset, m.to_account AS account, m.credit_class, m.vintage,
                   m.expires_on, sum(m.amount) AS amount
            FROM ledger.transfer t
            JOIN ledger.movement m ON (m.participant_id, m.transfer_id) = (t.participant_id, t.reverses)
            WHERE t.kind = 'refund' GROUP BY 1, 2, 3, 4, 5, 6, 7
        ), back AS (
            SELECT t.participant_id, t.transfer_id, m.asset, m.from_account AS account, m.credit_class, m.vintage,
                   m.expires_on, sum(m.amount) AS amount
            FROM ledger.transfer t JOIN ledger.movement m USING (participant_id, transfer_id)
            WHERE t.kind = 'refund' GROUP BY 1, 2, 3, 4, 5, 6, 7
        )
        SELECT concat_ws(' ', coalesce(t.participant_id, b.participant_id), coalesce(t.transfer_id, b.transfer_id),
                   coalesce(t.asset, b.asset)) AS about,
               concat_ws(' ', coalesce(b.amount, 0), b.account, b.credit_class, b.vintage, b.expires_on) AS stored,
               concat_ws(' ', coalesce(t.amount, 0), t.account, t.credit_class, t.vintage, t.expires_on) AS journal
        FROM taken t FULL JOIN back b
            ON (t.participant_id, t.transfer_id, t.asset, t.account, t.amount) =
               (b.participant_id, b.transfer_id, b.asset, b.account, b.amount)
            AND concat_ws(' ', t.credit_class, t.vintage, t.expires_on) =
                concat_ws(' ', b.credit_class, b.vintage, b.expires_on)
        WHERE t.transfer_id IS NULL OR b.transfer_id IS NULL
    """,
    # What is left of a hold is what it reserved, less what its captures and its release took, and they came after it.
    "hold": """
        WITH steps AS (
            SELECT t.participant_id, coalesce(t.hold_id, t.transfer_id) AS hold_id, t.kind, t.counter, m.asset,
                   CASE t.kind WHEN 'hold' THEN m.amount ELSE -m.amount END AS amount
            FROM ledger.transfer t JOIN ledger.movement m USING (participant_id, transfer_id)
            WHERE t.kind IN ('hold', 'capture', 'release')
        ), expected AS (
            SELECT participant_id, hold_id, coalesce(sum(amount) FILTER (WHERE asset = 'points'), 0) AS points,
                   coalesce(sum(amount) FILTER (WHERE asset = 'co2e_mg'), 0) AS co2e,
                   coalesce(min(counter) FILTER (WHERE kind = 'hold') = min(counter), false) AS first
            FROM steps GROUP BY participant_id, hold_id
        )
        SELECT concat_ws(' ', participant_id, hold_id) AS about,
               coalesce(format('%s points, %s mg left', h.points_left, h.co2e_left), 'no hold') AS stored,
               coalesce(format('%s points, %s mg left%s', e.points, e.co2e,
                   CASE WHEN e.first THEN '' ELSE ' of what was not held first' END), 'no hold') AS journal
        FROM ledger.hold h FULL JOIN expected e USING (participant_id, hold_id)
        WHERE (h.points_left, h.co2e_left) IS DISTINCT FROM (e.points, e.co2e) OR e.first IS NOT TRUE
    """,
    "leaf": """
        WITH leaves AS (
            SELECT participant_id, transfer_id, 1 AS leaf FROM ledger.leaf
            UNION ALL SELECT participant_id, transfer_id, 1 AS leaf FROM ledger.leaf_queue
        )
        SELECT participant_id || ' ' || transfer_id AS about, format('%s leaves', count(l.leaf)) AS stored,
               '1 leaf' AS journal
        FROM ledger.transfer t
        LEFT JOIN leaves l USING (participant_id, transfer_id)
        GROUP BY participant_id, transfer_id HAVING count(l.leaf) <> 1
    """,
    "log size": """
        SELECT 'log' AS about, h.size::text AS stored, format('%s leaves up to %s', l.leaves, l.last) AS journal
        FROM ledger.log_head h, (SELECT count(*) AS leaves, coalesce(max(log_index), -1) AS last FROM ledger.leaf) AS l
        WHERE h.size <> l.leaves OR h.size <> l.last + 1
    """,
    "system total": """
        WITH expected AS (
            SELECT t.programme, m.asset, s.account, sum(s.change) AS amount
            FROM ledger.fold_head f
            JOIN ledger.leaf l ON l.log_index < f.folded_to
            JOIN ledger.transfer t USING (participant_id, transfer_id)
            JOIN ledger.movement m USING (participant_id, transfer_id),
            LATERAL (VALUES (m.to_account, m.amount), (m.from_account, -m.amount)) AS s (account, change)
            WHERE s.account NOT IN ('available', 'pending', 'held', 'debt') GROUP BY t.programme, m.asset, s.account
        )
        SELECT programme || ' ' || asset || ' ' || account AS about, coalesce(s.amount, 0)::text AS stored,
               coalesce(e.amount, 0)::text AS journal
        FROM ledger.system_total s FULL JOIN expected e USING (programme, asset, account)
        WHERE coalesce(s.amount, 0) <> coalesce(e.amount, 0)
    """,
}

_COUNTS = """
    SELECT (SELECT count(*) FROM ledger.account) AS accounts, (SELECT count(*) FROM ledger.transfer) AS transfers,
           (SELECT count(*) FROM ledger.movement) AS lines, (SELECT size FROM ledger.log_head) AS log_size,
           (SELECT count(*) FROM ledger.leaf_queue) AS queued, (SELECT folded_to FROM ledger.fold_head) AS folded_to
"""

_LEAVES = """
    SELECT l.log_index, l.leaf, t.participant_id::text AS participant, t.transfer_id::text AS transfer, t.kind,
           t.counter::text AS counter, t.programme, t.region, t.effective_on::text AS day,
           to_char(t.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at,
           t.reverses::text AS reverses, t.reason, t.matures::text AS matures, t.hold_id::text AS hold,
           a.kind AS participant_kind, m.lines,
           l.transfer_id::text AS told_of
    FROM ledger.leaf l
    LEFT JOIN ledger.transfer t USING (participant_id, transfer_id)
    LEFT JOIN ledger.account a USING (participant_id)
    LEFT JOIN LATERAL (
        SELECT array_agg(
            concat_ws(' ', asset, from_account, to_account, amount, credit_class, vintage, expires_on) ORDER BY line
        ) AS lines
        FROM ledger.movement m WHERE m.participant_id = l.participant_id AND m.transfer_id = l.transfer_id
    ) AS m ON true
    ORDER BY l.log_index
"""
_TRANSFER_FIELDS = (
    "participant",
    "transfer",
    "kind",
    "counter",
    "programme",
    "region",
    "day",
    "at",
    "reverses",
    "reason",
    "matures",
    "hold",
    "participant_kind",
)
_LINE_FIELDS = ("asset", "from", "to", "amount", "class", "vintage", "expires")


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference: what was compared, about whom, what is stored and what the journal says."""

    check: str
    about: str
    stored: str
    journal: str


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was compared, and every difference found."""

    counts: dict[str, int]
    findings: tuple[Finding, ...]


async def check_ledger(connection: asyncpg.Connection) -> Checked:
    """Compare balances, buckets, counters, reversals, maturities, holds, leaves, the log and the system totals with the
    journal, as of one moment.

    Needs only to read, and holds up nobody who posts.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")  # a large ledger takes minutes
        counts = dict(await connection.fetchrow(_COUNTS) or {})
        findings = [
            Finding(check, row["about"], row["stored"], row["journal"])
            for check, query in _DIFFERENCES.items()
            for row in await connection.fetch(query, timeout=None)
        ]
        findings += [finding async for finding in _unlike_leaves(connection)]
    return Checked(counts, tuple(findings))


async def _unlike_leaves(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    """Leaves that are not canonical or do not say what the journal says."""
    async for row in connection.cursor(_LEAVES, prefetch=1000):
        try:
            leaf = read_leaf(row["leaf"])
        except LeafInvalid as invalid:
            yield Finding("leaf content", f"index {row['log_index']}", str(invalid), "a canonical leaf")
            continue
        if leaf["kind"] not in KINDS:  # a rule's or a manifest's
            if row["told_of"]:
                yield Finding("leaf transfer", f"index {row['log_index']}", f"a {leaf['kind']}", row["told_of"])
            continue
        lines = [" ".join(filter(None, map(line.get, _LINE_FIELDS))) for line in leaf["lines"]]
        said = {name: leaf.get(name) for name in _TRANSFER_FIELDS} | {"lines": lines}
        journal = {name: row[name] for name in said}
        for name in said:
            if said[name] != journal[name]:
                yield Finding(f"leaf {name}", f"index {row['log_index']}", str(said[name]), str(journal[name]))
