# What the operator does: register you and your key, open a pool that pays, list a product and an offer of yours.
as() {
  TOKEN=$1
  shift
  curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" "$@"
}
json='Content-Type: application/json'
[ -e bank.pem ] || tanpuhui bank new-key bank.pem --kid yours-1 > bank.jwk   # yours: the private half stays with you

as "$OPERATOR_TOKEN" -X PUT -H "$json" -d @- "$PLATFORM/v1/banks" <<BODY
{"uri": "$BANK", "title_zh": "您的银行", "title_en": "Your bank"}
BODY
as "$OPERATOR_TOKEN" -X PUT -H "$json" -d @- "$PLATFORM/v1/banks/keys" <<BODY
{"bank": "$BANK", "key": $(cat bank.jwk), "valid_from": "2026-01-01T00:00:00+08:00"}
BODY
as "$OPERATOR_TOKEN" -X PUT -H "$json" -d @- "$PLATFORM/v1/pools" <<BODY
{"pool": "guide-pool", "funder": "https://fund.example/guide", "title_zh": "指南资金池", "title_en": "The guide's pool",
 "rate_fen": 10, "rate_points": 1, "shortage": "stop", "points": 100000, "value_fen": 1000000}
BODY
for document in product offer; do
  as "$OPERATOR_TOKEN" -X PUT -H 'Content-Type: text/yaml' --data-binary "@$document.yaml" "$PLATFORM/v1/products/documents"
  for PERSON in "$OPERATOR_TOKEN" "$COLLEAGUE_TOKEN"; do  # two people, or nothing is listed
    as "$PERSON" -X POST "$PLATFORM/v1/products/documents/$document/guide-$document/1/approve"
  done
done
