# The first ride was 2.53 km, not 2.35: a new event takes its place, and the credit goes with it.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/cloudevents+json' -d @- "$PLATFORM/v1/activities" <<EVENT
{"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE",
 "id": "order-1001-corrected", "subject": "rider-7",
 "data": {"scenario": "shared-ebike", "replaces": "order-1001",
          "started_at": "2026-05-01T08:00:00+08:00", "ended_at": "2026-05-01T08:12:00+08:00",
          "inputs": {"distance_km": "2.53"}, "basis": {"distance_km": "track"},
          "vehicle": "1381", "references": {"operator": "example.com", "order": "1001"}}}
EVENT
# The second one never took place. With "dry_run": true it would only say what would be taken back.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/json' -d '{"ids": ["order-1002"], "dry_run": false}' "$PLATFORM/v1/retractions"
