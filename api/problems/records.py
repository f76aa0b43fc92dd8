"""Problems of records that are looked up, signed or changed by themselves."""

from api.problems.kinds import ProblemType, Text, by_slug

ENTRIES = by_slug(
    ProblemType(
        "malformed-jws",
        400,
        Text("不是有效的 JWS", "Not a compact JWS"),
        Text("请求体不是紧凑格式的 JWS：{why}。", "The body is not a compact JWS: {why}."),
        Text(
            "按 RFC 7515 第 7.1 节签名后，不加空白与换行重发。",
            "Sign it as RFC 7515, 7.1 describes, and send it without white space.",
        ),
    ),
    ProblemType(
        "signature-refused",
        403,
        Text("签名未通过验证", "Signature was not accepted"),
        Text("该内容的签名未通过验证：{why}。", "The signature under the content was not accepted: {why}."),
        Text(
            "用本数据方已登记且在有效期内的密钥（Ed25519 用 EdDSA，P-256 用 ES256）重新签名。",
            "Sign it with a key registered for this source and valid now: EdDSA for Ed25519, ES256 for P-256.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "source-key-conflict",
        409,
        Text("此 kid 已用于另一密钥", "The kid stands for another key"),
        Text(
            "该数据方已用此 kid 登记了另一密钥，或登记了不同的生效时间，或更早的失效时间。",
            "The source has registered another key under this kid, or this one with another beginning or an earlier "
            "end.",
        ),
        Text(
            "新密钥使用新的 kid；已登记的密钥只能设定失效时间或将其提前。",
            "Give a new key a kid of its own; a registered one can only be ended, or end earlier.",
        ),
    ),
    ProblemType(
        "day-not-closable",
        422,
        Text("该日不能报送日清单", "The day cannot be closed"),
        Text("{day} 不能报送日清单：{why}。未保留任何内容。", "{day} cannot be closed: {why}. Nothing was kept."),
        Text("在该日结束后报送；日期按 Asia/Shanghai 计。", "Close a day once it is over in Asia/Shanghai."),
        shown=("day",),
    ),
    ProblemType(
        "manifest-conflict",
        409,
        Text("该序号已有另一日清单", "Another manifest has this number"),
        Text(
            "该日的这一序号已有另一内容的日清单，其摘要为 {digest}。",
            "Another manifest of this day has this sequence number; its digest is {digest}.",
        ),
        Text("更正使用下一个序号。", "A correction is the next sequence number."),
        shown=("digest",),
    ),
    ProblemType(
        "manifest-out-of-sequence",
        409,
        Text("日清单序号不连续", "Manifest is out of sequence"),
        Text("该日的下一个序号应为 {expected}。", "The next sequence number of this day is {expected}."),
        Text("以该序号重新签名后报送。", "Sign it again with that number."),
        shown=("expected",),
    ),
    ProblemType(
        "source-not-found",
        404,
        Text("没有此数据方", "No such source"),
        Text("没有登记此数据方。", "No source is registered under this URI."),
        Text("检查 uri；登记由平台运营方完成。", "Check the URI; the operator registers sources."),
    ),
    ProblemType(
        "participant-not-found",
        404,
        Text("没有此参与者", "No such participant"),
        Text("没有此参与者。", "There is no such participant."),
        Text("检查 participant_id。", "Check the participant_id."),
    ),
    ProblemType(
        "participant-conflict",
        409,
        Text("参与者信息冲突", "Participant differs"),
        Text(
            "该用户已以其他类别或另一参与者身份登记。", "The person is enrolled as another kind or another participant."
        ),
        Text("先读取已有登记，再以相同信息登记。", "Read the existing enrolment and enrol with the same facts."),
    ),
    ProblemType(
        "programme-mismatch",
        409,
        Text("计划不一致", "Programmes differ"),
        Text(
            "参与者与数据方属于不同的碳普惠计划。",
            "The participant and the source belong to different programmes.",
        ),
        Text(
            "关联同一计划的数据方；跨计划须先有互认规则。",
            "Link a source of the participant's programme; across programmes a recognition rule comes first.",
        ),
    ),
    ProblemType(
        "link-not-found",
        404,
        Text("没有此关联", "No such link"),
        Text("该参与者没有此关联。", "The participant has no such link."),
        Text("检查 link_id。", "Check the link_id."),
    ),
    ProblemType(
        "transfer-not-found",
        404,
        Text("没有此划转", "No such transfer"),
        Text("该参与者没有此划转。", "The participant has no such transfer."),
        Text("检查 transfer_id，可在明细中查到。", "Check the transfer_id; the statement lists them."),
    ),
    ProblemType(
        "methodology-not-found",
        404,
        Text("没有此方法学", "No such methodology"),
        Text("没有此摘要对应的方法学。", "No methodology has this digest."),
        Text("在 /v1/methodologies 中查找摘要。", "Find the digest in /v1/methodologies."),
    ),
    ProblemType(
        "rule-not-found",
        404,
        Text("没有此规则文档", "No such rule document"),
        Text(
            "没有名为 {name} 的规则文档或场景，或没有所要的版本 {version}。",
            "No rule document or scenario is named {name}, or it has no version {version}.",
        ),
        Text("对照 /v1/methodologies 与 /v1/points-rules。", "Look it up in /v1/methodologies and /v1/points-rules."),
        shown=("name",),
    ),
    ProblemType(
        "log-not-found",
        404,
        Text("日志中没有此文件", "No such file of the log"),
        Text("日志中没有 {name}。", "The log has no {name}."),
        Text(
            "先取 /log/checkpoint，按其大小推算分片路径；格式见 C2SP tlog-tiles。",
            "Fetch /log/checkpoint first: its size tells which tiles there are, by the paths of C2SP tlog-tiles.",
        ),
        shown=("name",),
    ),
    ProblemType(
        "receipt-not-ready",
        404,
        Text("回执尚未生成", "The receipt is not ready"),
        Text(
            "尚无检查点涵盖这笔划转；通常在入账后一两秒内生成。",
            "No checkpoint covers the transfer yet; one does a second or two after the posting.",
        ),
        Text(
            "稍后再取，或以 Prefer: wait=5 请求等待。",
            "Ask again in a moment, or let the answer wait with Prefer: wait=5.",
        ),
    ),
    ProblemType(
        "seal-not-found",
        404,
        Text("没有涵盖此余额的封存", "No seal covers the balance"),
        Text(
            "该日没有封存，或封存时该参与者尚无任何划转。",
            "That day is not sealed, or the participant had no transfer by then.",
        ),
        Text(
            "一日在结束一分钟后封存；不带 day 参数则取最近一次。",
            "A day is sealed a minute after it has ended; without `day` the latest seal is taken.",
        ),
    ),
    ProblemType(
        "act-not-covered",
        404,
        Text("没有关于此行为的文档", "No document about this act"),
        Text(
            "没有关于行为 {act} 的方法学；有文档的行为见 acts。",
            "No methodology is about the act {act}; `acts` lists those that there are some about.",
        ),
        Text("选用其中之一。", "Take one of these."),
        shown=("act", "acts"),
    ),
    ProblemType(
        "times-needed",
        422,
        Text("需要开始与结束时间", "Times are needed"),
        Text(
            "方法学 {methodology} 的结果取决于时间：{why}。",
            "What the methodology {methodology} gives depends on the times: {why}.",
        ),
        Text("同时给出 started_at 与 ended_at。", "Give both started_at and ended_at."),
        shown=("methodology",),
    ),
    ProblemType(
        "approval-refused",
        403,
        Text("签名不被接受", "Signature not accepted"),
        Text("该审批签名不被接受：{why}。", "The signature approves nothing: {why}."),
        Text(
            "用登记的密钥，以其登记的角色，为本计划、以当日日期对平台现有文档的摘要重新签名。",
            "Sign the document as it is here for this programme, with today's date and a registered key in its role.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "approval-conflict",
        409,
        Text("与已有审批冲突", "Conflicts with another approval"),
        Text("该签名与已有审批冲突：{why}。", "The signature cannot stand beside what is there: {why}."),
        Text(
            "主管部门与技术机构须由不同的人各签署一次。",
            "The competent authority and the technical body each sign once, by different people.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "not-reversible",
        409,
        Text("不可冲正", "Cannot be reversed"),
        Text("该划转的类别为 {kind}，不可冲正。", "The transfer is of the kind {kind}, which cannot be reversed."),
        Text("仅活动入账可以冲正。", "Only a credit of an activity can be reversed."),
    ),
    ProblemType(
        "already-reversed",
        409,
        Text("已冲正", "Already reversed"),
        Text(
            "该划转已由 {reversal} 冲正，理由为 {reason}。",
            "The transfer was reversed by {reversal}, for the reason {reason}.",
        ),
        Text("无需再次冲正。", "There is nothing left to reverse."),
        shown=("reversal", "reason"),
    ),
)
