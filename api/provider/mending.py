"""What a provider does about a row that was not credited: the remedy of the platform's problem, said for a file."""

from functools import lru_cache

from api.problems import PROBLEM_TYPES
from api.provider.report import DUPLICATE
from service.feeds import Bilingual

_OWN: dict[str, Bilingual] = {
    DUPLICATE: Bilingual(
        zh="无需处理：该事件此前已有结论，不会重复入账。若要更正，请以新的 id 报送，并以 replaces 指明原事件。",
        en="Nothing to do: this event was answered before and is not credited twice. To correct it, report it under a "
        "new id that names this one as `replaces`.",
    ),
    "subject-not-linked": Bilingual(
        zh="请平台运营方凭该用户的授权为您的数据方登记并关联此人（POST /v1/participants/batch，每次至多 1,000 人），"
        "然后重新导入整个文件：已入账的不会重复入账。",
        en="Ask the operator to enrol this person for your source, with their consent (POST /v1/participants/batch, up "
        "to 1,000 people a call). Then import the whole file again: what was credited is not credited twice.",
    ),
    "source-not-registered": Bilingual(
        zh="请平台运营方先登记数据方（PUT /v1/sources），然后重新导入整个文件。",
        en="Ask the operator to register your source (PUT /v1/sources), then import the whole file again.",
    ),
    "scenario-not-licensed": Bilingual(
        zh="请平台运营方为您的数据方许可该场景（PUT /v1/sources），然后重新导入整个文件。",
        en="Ask the operator to license your source for this scenario (PUT /v1/sources), then import the whole file "
        "again.",
    ),
}


def mend_of(reason: str) -> Bilingual | None:
    """What to do about a reason of the platform's, or a duplicate; None for a reason it does not know."""
    return _of_slug(reason.partition("/")[0])


@lru_cache(maxsize=256)
def _of_slug(slug: str) -> Bilingual | None:
    if slug in _OWN:
        return _OWN[slug]
    known = PROBLEM_TYPES.get(slug)
    return None if known is None else Bilingual(zh=known.remedy.zh, en=known.remedy.en)
