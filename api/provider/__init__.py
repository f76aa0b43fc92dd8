"""What a data provider's own program would be: it speaks to the platform through the public HTTP API alone.

`tanpuhui demo` and `tanpuhui import` run it. Sending again is always safe, because an event's id is its idempotency
key: so a fault that may pass is tried again for a bounded time, and any other ends the import with a sentence that says
what to do.
"""

from api.provider.outcomes import DUPLICATE, MALFORMED_ROW, ImportReport, ImportStopped
from api.provider.rides import Consent, Enrol, Progress, enrol_riders, post_rides, register_source
from api.provider.sending import Patience

__all__ = [
    "DUPLICATE",
    "MALFORMED_ROW",
    "Consent",
    "Enrol",
    "ImportReport",
    "ImportStopped",
    "Patience",
    "Progress",
    "enrol_riders",
    "post_rides",
    "register_source",
]
