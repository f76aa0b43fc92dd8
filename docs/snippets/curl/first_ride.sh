# The first ride: one event, one answer.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/cloudevents+json' -d @- "$PLATFORM/v1/activities" <<EVENT
{"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE",
 "id": "order-1001", "subject": "rider-7",
 "data": {"scenario": "shared-ebike",
          "started_at": "2026-05-01T08:00:00+08:00", "ended_at": "2026-05-01T08:12:00+08:00",
          "inputs": {"distance_km": "2.35"}, "basis": {"distance_km": "track"},
          "vehicle": "1381", "references": {"operator": "example.com", "order": "1001"}}}
EVENT
