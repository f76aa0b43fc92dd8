# Once: a key of your own. The private half stays with you in rides-1.jwk; the operator registers the public half.
PUBLIC_KEY=$(tanpuhui manifest key rides-1.jwk --kid rides-1)
curl -sS -w ' %{http_code}\n' -X PUT -H "Authorization: Bearer $OPERATOR_TOKEN" -H 'Content-Type: application/json' \
  -d @- "$PLATFORM/v1/sources/keys" <<KEY
{"uri": "$SOURCE", "valid_from": "2024-01-01T00:00:00+08:00", "key": $PUBLIC_KEY}
KEY
