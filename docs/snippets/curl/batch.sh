# A batch: a new ride, the first one again, and a ride of somebody who is not enrolled.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/cloudevents-batch+json' -d @- "$PLATFORM/v1/activities" <<BATCH
[{"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE", "id": "order-1004",
  "subject": "rider-8", "data": {"scenario": "shared-ebike", "started_at": "2026-05-01T09:00:00+08:00",
  "ended_at": "2026-05-01T09:20:00+08:00", "inputs": {"distance_km": "4"}}},
 {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE", "id": "order-1001",
  "subject": "rider-7", "data": {"scenario": "shared-ebike", "started_at": "2026-05-01T08:00:00+08:00",
  "ended_at": "2026-05-01T08:12:00+08:00", "inputs": {"distance_km": "2.350"}, "basis": {"distance_km": "track"},
  "vehicle": "1381", "references": {"operator": "example.com", "order": "1001"}}},
 {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE", "id": "order-1005",
  "subject": "rider-99", "data": {"scenario": "shared-ebike", "started_at": "2026-05-01T09:30:00+08:00",
  "ended_at": "2026-05-01T09:50:00+08:00", "inputs": {"distance_km": "4"}}}]
BATCH
