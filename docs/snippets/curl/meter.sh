# A home's April, 180 kWh, against the April before, 230 kWh: registers as they were read at midnight in Shanghai.
curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PROVIDER_TOKEN" -H "Accept-Language: $READ_IN" \
  -H 'Content-Type: application/cloudevents+json' -d @- "$PLATFORM/v1/activities" <<EVENT
{"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "$SOURCE",
 "id": "meter-310104-0007-2026-04", "subject": "rider-8",
 "data": {"scenario": "demo-home-electricity", "inputs": {},
          "started_at": "2026-04-01T00:00:00+08:00", "ended_at": "2026-05-01T00:00:00+08:00",
          "references": {"meter": "310104-0007", "address": "QN-2207-1502"},
          "readings": {"use_kwh": {"kind": "cumulative",
            "at": [["2026-04-01T00:00:00+08:00", "9120.5"], ["2026-05-01T00:00:00+08:00", "9300.5"]]}},
          "baseline": {"baseline_kwh": {"kind": "cumulative",
            "at": [["2025-04-01T00:00:00+08:00", "6541.25"], ["2025-05-01T00:00:00+08:00", "6771.25"]]}}}}
EVENT
