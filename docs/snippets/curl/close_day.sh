# Close a day from the outcomes you kept: sh curl/close_day.sh 2026-11-22 outcomes.csv
# First what the platform has received of it, then your signed list.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" "$PLATFORM/v1/manifests/receipt?day=$1"
(umask 077 && printf '%s' "$PROVIDER_TOKEN" > token)
tanpuhui manifest make --source "$SOURCE" --day "$1" --outcomes "$2" --key rides-1.jwk \
  --url "$PLATFORM" --token-file token
