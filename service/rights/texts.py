"""The text that a guardian agrees to, under its version; another wording gets another version."""

GUARDIAN_TEXT_VERSION = "guardian-2026-1"
GUARDIAN_TEXT_ZH = (
    "我是该儿童的父母或其他监护人。我同意本平台处理其低碳行为记录、积分与身份信息，用于计量减排量与兑换权益；"
    "我可以随时查看、更正、撤回同意或要求删除，撤回后立即停止处理。孩子年满 14 周岁后由其本人决定。"
)
GUARDIAN_TEXT_EN = (
    "I am the child's parent or other guardian. I agree that this platform processes the child's low-carbon "
    "activities, points and identity to measure reductions and to redeem benefits. I may look at all of it, have it "
    "corrected, withdraw my consent or have it erased at any time; processing stops at once. From the age of 14 on the "
    "child decides."
)
