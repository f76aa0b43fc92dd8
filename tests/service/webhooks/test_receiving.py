"""Our receiver's half against the reference library's signatures, and ours."""

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from service.webhooks.receiving import TOLERANCE, NotVerified, verify_delivery
from service.webhooks.signing import new_secret, secret_text, signature_headers

NOW = datetime(2026, 6, 1, 4, tzinfo=UTC)
BODY = '{"type": "org.tanpuhui.log.hold.v1", "data": {"名": "碳"}}'


def test_what_the_library_signs_is_taken() -> None:
    secret = secret_text(new_secret())
    signature = Webhook(secret).sign("msg_1", NOW, BODY)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": f"v1a,bm90IG91cnM= {signature} broken",
    }
    assert verify_delivery([secret], headers, BODY.encode(), NOW) == "msg_1"
    with pytest.raises(NotVerified, match="no signature was made"):
        verify_delivery([secret_text(new_secret())], headers, BODY.encode(), NOW)


def test_either_of_two_secrets_will_do() -> None:
    former, newest = new_secret(), new_secret()
    headers = signature_headers("evt_1", NOW, b"{}", [newest, former])
    for secret in (former, newest):
        assert verify_delivery([secret_text(secret)], headers, b"{}", NOW) == "evt_1"
    assert verify_delivery([secret_text(new_secret()), secret_text(former)], headers, b"{}", NOW) == "evt_1"


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"webhook-id": ""}, "is missing"),
        ({"webhook-id": "evt_2"}, "no signature"),
        ({"webhook-timestamp": "soon"}, "no number"),
        ({"webhook-timestamp": "1780286401"}, "no signature"),
        ({"webhook-timestamp": "9" * 13}, "no number"),
        ({"webhook-signature": "v1"}, "no signature"),
        ({"webhook-signature": "v2,AAAA"}, "no signature"),
    ],
)
def test_what_is_changed_on_the_way_is_refused(change: dict[str, str], because: str) -> None:
    secret = new_secret()
    headers = signature_headers("evt_1", NOW, b"{}", [secret])
    assert int(headers["webhook-timestamp"]) == 1780286400
    with pytest.raises(NotVerified, match=because):
        verify_delivery([secret_text(secret)], headers | change, b"{}", NOW)


def test_what_comes_too_late_is_refused() -> None:
    secret = new_secret()
    headers = signature_headers("evt_1", NOW, b"{}", [secret])
    for moved in (TOLERANCE, -TOLERANCE):
        assert verify_delivery([secret_text(secret)], headers, b"{}", NOW + moved) == "evt_1"
    for moved in (TOLERANCE + timedelta(seconds=1), -TOLERANCE - timedelta(seconds=1)):
        with pytest.raises(NotVerified, match="five minutes"):
            verify_delivery([secret_text(secret)], headers, b"{}", NOW + moved)


def test_a_secret_that_is_none_is_said() -> None:
    with pytest.raises(NotVerified, match="whsec_ and base64"):
        verify_delivery(["whsec_???"], signature_headers("evt_1", NOW, b"{}", [new_secret()]), b"{}", NOW)
