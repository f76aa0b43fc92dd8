"""A factor set and a methodology that pins one of its figures, for tests; all of it is invented."""

from service.quantification.factor_sets import FactorSet, parse_factor_set

FACTOR_SET = """\
schema: 1
kind: factor_set
id: invented-2024
title: {zh: 虚构的电力因子, en: Invented electricity factors}
issuer: {zh: 虚构的机构, en: An invented office}
document: {zh: 第 7 号, en: no. 7}
published: 2025-03-14
quantity: {zh: 统计值, en: statistics}
unit: kg/kWh
sources:
  - {id: paper, title: {zh: 公告, en: notice}, publisher: {zh: 机构, en: office}, published: unknown}
figures:
  shanghai: {meaning: {zh: 上海, en: Shanghai}, value: "0.5737", confidence: confirmed, source: paper}
  north-grid: {meaning: {zh: 北方, en: north}, value: "0.61", confidence: single, source: paper, quality: low}
  tibet: {meaning: {zh: 西藏, en: Tibet}, value: unknown, note: {zh: 未找到, en: not found}}
notes:
  - {zh: 虚构, en: invented}
"""
SET: FactorSet = parse_factor_set(FACTOR_SET.encode())
SETS = {SET.id: SET}

PUBLISHED = """\
schema: 1
id: our-published
version: 1
title: {zh: 已公布的部分, en: What was published of it}
status: official
jurisdiction: shanghai
issuer: {zh: 虚构的机构, en: An invented office}
scenario: {id: our-published, zh: 节电, en: saving electricity}
act: home-electricity
part_of: {id: some-table, zh: 某表, en: some table}
baseline_scenario: {zh: 未见公布, en: not published}
trigger: unknown
participants: unknown
credit_class: unknown
in_force: unknown
claim_window: unknown
missing:
  - {zh: 计算公式, en: the formula}
factors:
  grid:
    unit: g/kWh
    meaning: {zh: 电力因子, en: electricity factor}
    values:
      - from: 2024-01-01
        value: "573.7"
        source: paper
        confidence: confirmed
        pinned:
          set: invented-2024
          figure: shanghai
          digest: DIGEST
sources:
  - {id: paper, title: {zh: 公告, en: notice}, publisher: {zh: 机构, en: office}, published: 2025-03}
""".replace("DIGEST", SET.digest)
