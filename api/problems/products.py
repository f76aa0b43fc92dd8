"""Problems of green products, offers and their listing."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "listing-document-invalid",
        422,
        Text("产品或权益文档有误", "The document of a product or an offer is not as expected"),
        Text("文档第 {line} 行有误：{why}。", "The document is refused at line {line}: {why}."),
        Text(
            "在本机以 `tanpuhui product lint` 检查，改正后重发。",
            "Check it with `tanpuhui product lint`, correct it and send it again.",
        ),
        shown=("line",),
    ),
    ProblemType(
        "listing-document-conflict",
        409,
        Text("该版本已有另一份文档", "Another document has this version"),
        Text(
            "此编号与版本已登记为摘要 {digest} 的文档。",
            "Under this id and version the document of digest {digest} is registered.",
        ),
        Text("文档登记后不可更改；更正请用新的版本号。", "A document never changes: give a correction a new version."),
        shown=("digest",),
    ),
    ProblemType(
        "product-not-found",
        404,
        Text("没有此产品", "Product not found"),
        Text("绿色产品名录中没有此产品或该版本。", "The board has no such product, or no such version of it."),
        Text("在 GET /v1/products 中查找。", "Look it up at GET /v1/products."),
    ),
    ProblemType(
        "offer-not-found",
        404,
        Text("没有此权益", "Offer not found"),
        Text("没有此权益或该版本。", "There is no such offer, or no such version of it."),
        Text("在 GET /v1/offers 中查找。", "Look it up at GET /v1/offers."),
    ),
    ProblemType(
        "listing-document-not-found",
        404,
        Text("没有此文档", "Document not found"),
        Text("没有提交过该类别、编号与版本的文档。", "No document of this kind, id and version was submitted."),
        Text("先以 PUT /v1/products/documents 提交。", "Submit it first at PUT /v1/products/documents."),
    ),
    ProblemType(
        "listing-refused",
        409,
        Text("不能上架", "It cannot be listed"),
        Text("证据缺失、过期或相互矛盾：{why}。", "Evidence is missing, expired or contradictory: {why}."),
        Text(
            "补齐证据后以新的版本提交；或先登记银行、开放资金池、上架产品。未保留任何内容。",
            "Mend it in a new version; or register the bank, open the pool, list the product first. Nothing was kept.",
        ),
    ),
    ProblemType(
        "listing-already-approved",
        409,
        Text("同一人已批准", "The same person has approved it"),
        Text("上架须由两人分别批准；此令牌的持有人已批准过。", "Two people approve a listing; this one has already."),
        Text("请另一位操作人员批准。", "Ask another operator to approve it."),
    ),
    ProblemType(
        "listing-state-wrong",
        409,
        Text("当前状态不允许此操作", "Its state does not allow this"),
        Text("该文档目前的状态为 {state_title}。", "The document is {state_title} at present."),
        Text(
            "先查询其状态；已下架的版本不能恢复，须提交新的版本。",
            "Look at its state first; what was taken down stays down: submit a new version.",
        ),
        shown=("state",),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "form": ("listing-document-invalid",),
    "records": (
        "product-not-found",
        "offer-not-found",
        "listing-document-not-found",
        "listing-document-conflict",
        "listing-state-wrong",
        "listing-already-approved",
        "listing-refused",
    ),
}
