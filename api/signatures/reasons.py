"""Why a bank's or a source's signature was not taken, in both languages: what was expected and what to do."""

from collections.abc import Mapping
from typing import Any

from api.problems import Problem, Text
from api.signatures.reading import SignatureFault

REASONS: Mapping[str, Text] = {
    "missing": Text("缺少请求头 {named}", "the header {named} is missing"),
    "malformed": Text("{named} 不是规范的结构化字段 (RFC 8941)", "{named} is not a well-formed structured field"),
    "field-repeated": Text("请求头 {named} 只能出现一次", "the header {named} came more than once"),
    "tag": Text(
        '没有标签为 {named} 的签名（tag="{named}"）',
        'no signature has the parameter tag="{named}"',
    ),
    "several": Text("标签为 {named} 的签名多于一个", "more than one signature has the tag {named}"),
    "parameter": Text("签名参数 {named} 未知", "the signature has a parameter that is not known: {named}"),
    "component": Text(
        "签名组件 {named} 不得带参数 (sf、key、bs、req 等)",
        "the component {named} must be covered without parameters such as sf, key, bs or req",
    ),
    "component-repeated": Text("签名组件 {named} 重复", "the component {named} is covered twice"),
    "coverage": Text("签名没有覆盖 {named}", "the signature does not cover {named}"),
    "authority": Text(
        "签名所覆盖的地址 (@authority) {named} 不是本平台的公开地址",
        "the address that was signed (@authority), {named}, is none of this platform's",
    ),
    "binary": Text(
        "签名的事件须以结构化或批次形式报送：请求头 {named} 会把个人标识写入永久留存的签名原文",
        "a signed event comes in structured mode or in a batch: the header {named} would put a person's id into the "
        "text that was signed, which is kept for good",
    ),
    "created": Text("签名缺少 created 参数", "the signature says not when it was created"),
    "too-old": Text(
        "签名的 created={named} 早于平台当前时间五分钟以上",
        "created={named} is more than five minutes before the platform's time",
    ),
    "in-future": Text(
        "签名的 created={named} 晚于平台当前时间三十秒以上",
        "created={named} is more than thirty seconds after the platform's time",
    ),
    "expired": Text("签名已在 expires={named} 失效", "the signature ended at expires={named}"),
    "nonce": Text("nonce 须为 16 至 128 个字符", "a nonce has 16 to 128 characters"),
    "nonce-used": Text("此 nonce 已用过，重发须重新签名", "the nonce was used before: a retry is signed anew"),
    "keyid": Text("签名缺少 keyid 参数", "the signature names no keyid"),
    "unknown-key": Text("调用方没有登记密钥 {named}", "no key {named} is registered for whoever calls"),
    "key-not-valid": Text("密钥 {named} 当前不在有效期", "the key {named} is not valid now"),
    "algorithm": Text("alg={named} 与该密钥的类型不符", "alg={named} is not the algorithm of the key"),
    "digest-missing": Text("缺少 Content-Digest 请求头", "the header Content-Digest is missing"),
    "digest-algorithm": Text(
        "Content-Digest 的算法 {named} 不被接受，须为 sha-256 或 sha-512",
        "Content-Digest has the algorithm {named}; sha-256 and sha-512 are taken",
    ),
    "digest": Text("Content-Digest 与请求体不符", "Content-Digest is not the digest of the body"),
    "signature": Text(
        "签名与所覆盖的内容不符",
        "the signature is not that of the components it names, as they arrived, under this key",
    ),
}


def reason_text(fault: SignatureFault) -> Text:
    """Why, in both languages."""
    text, named = REASONS[fault.reason], ", ".join(fault.named)
    return Text(text.zh.format(named=named), text.en.format(named=named))


def refused(fault: SignatureFault, slug: str = "call-signature-refused") -> Problem:
    """The problem of a signature that is not taken; `named` lists what the reason is about."""
    why = reason_text(fault)
    members: Mapping[str, Any] = {"named": list(fault.named)} if fault.named else {}
    return Problem(slug, members=members, reason=fault.reason, why_zh=why.zh, why_en=why.en)
