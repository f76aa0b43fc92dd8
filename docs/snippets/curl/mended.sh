# Mended, and sent again under the same id: nothing was kept of what came before.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/cloudevents+json' -d @- "$PLATFORM/v1/activities" <<EVENT
{"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE",
 "id": "order-1002", "subject": "rider-7",
 "data": {"scenario": "shared-ebike",
          "started_at": "2026-05-01T18:00:00+08:00", "ended_at": "2026-05-01T18:20:00+08:00",
          "inputs": {"distance_km": "4.2"}}}
EVENT
