"""What a data provider's own program would be: it speaks to the platform through the public HTTP API alone.

`tanpuhui demo` and `tanpuhui import` run it. Sending again is always safe, because an event's id is its idempotency
key: so a fault that may pass is tried again for a bounded time, and any other ends the import with a sentence that says
what to do.
"""

from api.provider.enrolling import Consent, Enrol, enrol_riders, register_source
from api.provider.posting import Progress, post_rows
from api.provider.recording import Recorder
from api.provider.report import DUPLICATE, ImportReport, ImportStopped
from api.provider.sending import Bearer, Patience
from service.feeds import MALFORMED_ROW

__all__ = [
    "DUPLICATE",
    "MALFORMED_ROW",
    "Bearer",
    "Consent",
    "Enrol",
    "ImportReport",
    "ImportStopped",
    "Patience",
    "Progress",
    "Recorder",
    "enrol_riders",
    "post_rows",
    "register_source",
]
