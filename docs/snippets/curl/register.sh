# What the operator does: register you with your licence, and enrol three people with their consent.
as_operator() {
  curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $OPERATOR_TOKEN" -H 'Content-Type: application/json' "$@"
}
as_operator -X PUT -d @- "$PLATFORM/v1/sources" <<BODY
{"uri": "$SOURCE", "title_zh": "示例数据方", "title_en": "An example provider", "grade": "A",
 "scenarios": ["shared-ebike", "demo-home-electricity"], "valid_from": "2024-01-01"}
BODY
for RIDER in rider-7 rider-8 rider-9; do
  as_operator -d @- "$PLATFORM/v1/participants" <<BODY
{"kind": "citizen", "links": [{"source": "$SOURCE", "subject": "$RIDER", "consent":
  {"purpose": "carbon-credit", "text_version": "terms-3", "given_at": "2026-04-01T09:00:00+08:00"}}]}
BODY
done
