"""Codes of the domain in Chinese and English: accounts, kinds, reasons, units of time, references."""

from collections.abc import Mapping

from api.problems.table import Language, Text

# A code that means different things in different places has the place before it: `per/day` is a cap's, `day` a
# trigger's.
WORDS: Mapping[str, Text] = {
    "credit": Text("减排入账", "credit"),
    "reversal": Text("冲正", "reversal"),
    "lapse": Text("积分到期", "lapse"),
    "maturity": Text("转为可用", "maturity"),
    "available": Text("可用", "available"),
    "pending": Text("待确认", "pending"),
    "held": Text("冻结", "held"),
    "debt": Text("待偿还", "debt"),
    "issuance": Text("签发", "issuance"),
    "lapsed": Text("已过期", "lapsed"),
    "retired": Text("已注销", "retired"),
    "clearing": Text("清算", "clearing"),
    "partner": Text("合作方", "partner"),
    "co2e_mg": Text("减排量（毫克二氧化碳当量）", "reduction in milligrams CO2e"),
    "points": Text("碳积分", "points"),
    "campaign": Text("活动预算追加的碳积分", "points added by a campaign's budget"),
    "source_retracted": Text("数据方撤回", "retracted by the source"),
    "evidence_disproved": Text("证据被推翻", "evidence disproved"),
    "posted_in_error": Text("入账有误", "posted in error"),
    "not_eligible_at_settlement": Text("结算时不符合条件", "not eligible at settlement"),
    "superseded": Text("由同一行为的更可靠记录取代", "superseded by a better record of the same thing"),
    "corrected": Text("数据方更正", "corrected by the source"),
    "key_compromised": Text("数据方密钥失窃", "the source's key was compromised"),
    "citizen": Text("个人", "citizen"),
    "firm": Text("企业", "firm"),
    "social_organisation": Text("社会组织", "social organisation"),
    "government_body": Text("机关单位", "government body"),
    "public_institution": Text("事业单位", "public institution"),
    "official": Text("官方方法学", "official methodology"),
    "group_standard": Text("团体标准", "group standard"),
    "platform_table": Text("平台积分表", "platform table"),
    "demonstration": Text("演示用途，非官方", "demonstration only, not official"),
    "confirmed": Text("两个独立来源一致", "two independent sources agree"),
    "single": Text("单一来源", "one source only"),
    "inferred": Text("推算得出", "inferred"),
    "at_least": Text("不小于", "at least"),
    "at_most": Text("不大于", "at most"),
    "above": Text("大于", "above"),
    "below": Text("小于", "below"),
    "metered": Text("计量", "metered"),
    "track": Text("轨迹", "track"),
    "straight_line": Text("起终点直线距离", "straight line between start and end"),
    "station_distance": Text("站点间距离", "distance between stations"),
    "trip": Text("每次出行", "per trip"),
    "boarding": Text("每次（乘车或一次行为）", "per boarding or single act"),
    "day": Text("每日", "per day"),
    "period": Text("每个周期", "per period"),
    "behaviour": Text("行为类", "behaviour"),
    "scenario": Text("场景类", "scenario"),
    "project": Text("项目类", "project"),
    "unknown": Text("未见公布", "unknown: not published"),
    "review/open": Text("复核中", "under review"),
    "review/released": Text("已放行", "released"),
    "review/confirmed": Text("已确认异常", "confirmed"),
    "review/lapsed": Text("逾期未决，已放行", "not decided in time, so released"),
    "review/join": Text("并入新的信号", "another signal joined"),
    "review/answer": Text("申辩", "answer"),
    "review/release": Text("放行", "release"),
    "review/confirm": Text("确认异常", "confirmation"),
    "review/lapse": Text("逾期放行", "released because nobody decided in time"),
    "review/explained": Text("已有合理解释", "it was explained"),
    "review/rule_too_strict": Text("规则过严", "the rule was too strict"),
    "review/not_proven": Text("不足以证明", "it was not proven"),
    "review/automated": Text("由程序代为", "done by a program"),
    "review/shared_account": Text("多人共用账户", "an account that several people used"),
    "review/invented": Text("虚构的行为", "it never happened"),
    "review/copied": Text("抄录他人的记录", "copied from somebody else"),
    "competent_authority": Text("主管部门", "competent authority"),
    "technical_body": Text("技术机构", "technical body"),
    "methodology-incomplete": Text("文档写明尚有未知内容", "the document says that parts of it are not known"),
    "missing-figure": Text("有数值尚未找到", "a figure was not found"),
    "low-quality-figure": Text("有数值来源质量低", "a figure rests on a source of low quality"),
    "inferred-formula": Text(
        "公式为推算得出，只能按演示计入", "the formula is inferred, which is good for a demonstration only"
    ),
    "inferred-figure": Text(
        "有数值为推算得出，只能按演示计入", "a figure is inferred, which is good for a demonstration only"
    ),
    "status-not-allowed": Text("本部署不按此状态的文档计分", "this deployment does not credit under its status"),
    "not-approved": Text(
        "主管部门与技术机构尚未都签署", "the competent authority and the technical body have not both signed it"
    ),
    "declared": Text("自行申报", "declared"),
    "per/day": Text("日", "day"),
    "per/month": Text("月", "month"),
    "per/year": Text("年", "year"),
    "cap/actions": Text("次数", "actions"),
    "cap/grams": Text("减排量", "grams"),
    "cap/points": Text("碳积分", "points"),
    "counted/actions": Text("次", "actions"),
    "counted/grams": Text("毫克二氧化碳当量", "mg CO2e"),
    "counted/points": Text("分", "points"),
    "awaits/settlement": Text("待结算", "waits for its settlement"),
    "awaits/match": Text("待运营方记录核对", "waits for the operator's record of the same thing"),
    "awaits/registration": Text(
        "待项目登记、核证与签发", "waits for the project's registration, assurance and issuance"
    ),
    "settled/matured": Text("结算通过，转为可用", "settled: it can be used"),
    "settled/withdrawn": Text("结算未通过，已收回", "settled: it was taken back"),
    "no-points/declared": Text("自行申报的证据不产生碳积分", "self-declared evidence earns no points"),
    "no-points/project": Text(
        "项目减排量可交易，未放弃交易前不产生碳积分",
        "a project's grams can be traded; while they can they earn no points",
    ),
    "origin/earlier_year": Text("上年同期", "the same time a year earlier"),
    "origin/preceding": Text("此前各期的平均", "the mean of the periods before"),
    "gaps/pro_rata": Text("缺口按已测部分折算", "gaps are filled in proportion to what was measured"),
    "gaps/as_zero": Text("缺口按零计", "gaps count as nothing"),
    "gaps/refuse": Text("不允许缺口", "no gap is allowed"),
    "act/metro": Text("乘坐地铁", "riding the metro"),
    "act/bus": Text("乘坐公交", "riding a bus"),
    "act/electric-bus": Text("乘坐纯电公交", "riding an electric bus"),
    "act/shared-bike": Text("骑行共享单车", "riding a shared bike"),
    "act/shared-ebike": Text("骑行共享电单车", "riding a shared e-bike"),
    "act/ride-hailing": Text("乘坐网约车", "ride hailing"),
    "act/carpool": Text("合乘", "sharing a car ride"),
    "act/walking": Text("步行", "walking"),
    "act/cycling": Text("骑行", "cycling"),
    "act/electric-car": Text("驾驶纯电动汽车", "driving an electric car"),
    "act/home-electricity": Text("家庭节约用电", "saving electricity at home"),
    "act/office-electricity": Text("办公场所节约用电", "saving electricity in offices"),
    "act/rooftop-pv": Text("屋顶光伏发电", "rooftop photovoltaics"),
    "act/heat-pump": Text("使用空气源热泵", "an air-source heat pump"),
    "act/air-conditioner": Text("使用高效空调", "an efficient air conditioner"),
    "act/forest": Text("林业增汇", "a forest's growth"),
    "act/clothing-reuse": Text("旧衣回收再用", "reusing clothes"),
    "act/no-cutlery": Text("不要一次性餐具", "a meal without disposable cutlery"),
    "act/clean-plate": Text("光盘", "a clean plate"),
    "act/own-bag": Text("自带购物袋", "an own shopping bag"),
    "act/toll-payment": Text("电子不停车缴费", "paying a toll without stopping"),
    "act/citizen-acts": Text("公民绿色低碳行为", "citizens' low-carbon acts"),
    "act/low-carbon-travel": Text("低碳出行", "low-carbon travel"),
    "act/ev-charging": Text("电动汽车充电", "charging an electric car"),
    "way/trip": Text("每次出行", "per trip"),
    "way/boarding": Text("每次", "each time"),
    "way/day": Text("每日", "per day"),
    "way/month": Text("每月", "per month"),
    "way/year": Text("每年", "per year"),
    "reference/operator": Text("运营方", "operator"),
    "reference/order": Text("订单", "order"),
    "reference/payment": Text("支付记录", "payment"),
    "reference/vehicle": Text("车辆", "vehicle"),
    "reference/meter": Text("计量表", "meter"),
    "reference/installation": Text("装置", "installation"),
    "reference/address": Text("地址", "address"),
    "reference/site": Text("场所", "site"),
    "reference/travel": Text("出行", "travel"),
}


def word(code: str, language: Language, within: str = "") -> str:
    """A code in the reader's language, by its place if it has another meaning there; itself when it has no name."""
    text = WORDS.get(f"{within}/{code}") or WORDS.get(code)
    return code if text is None else str(getattr(text, language))


# Parameters of problems that are codes, or lists of codes: the place they are looked up in, and what they are joined
# by in the parameter, in Chinese and in English.
CODED: Mapping[str, tuple[str, str, Text]] = {
    "per": ("per", "", Text("", "")),
    "of": ("counted", "", Text("", "")),
    "kind": ("", "", Text("", "")),
    "reason": ("", "", Text("", "")),
    "because": ("", "", Text("", "")),
    "eligible": ("", ", ", Text("、", ", ")),
    "what": ("reference", "+", Text("与", " and ")),
}


def told(parameter: str, value: str, language: Language) -> str:
    """A parameter of a problem as its sentence says it."""
    if parameter not in CODED:
        return value
    within, joined_by, joint = CODED[parameter]
    codes = value.split(joined_by) if joined_by else [value]
    return str(getattr(joint, language)).join(word(code, language, within) for code in codes)
