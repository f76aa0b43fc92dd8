# When the tariff year is over: tier two, no photovoltaics. Every pending credit of the year is decided at once.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/json' -d @- "$PLATFORM/v1/settlements" <<FACTS
{"subject": "rider-8", "scenario": "demo-home-electricity", "first_day": "2026-01-01", "last_day": "2026-12-31",
 "facts": {"tier": 2, "has_pv": 0}}
FACTS
