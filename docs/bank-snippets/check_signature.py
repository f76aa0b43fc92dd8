"""Is my signature right? The sandbox says what is wrong with it and what was to be signed: check_signature.py"""

from bank import call, done

verdict = done(call("POST", "/v1/bank/sandbox/signature", {"units": 2}, key="try-1"))
print("accepted" if verdict["accepted"] else f"{verdict['reason']}: {verdict['detail']}")
print(verdict["signature_base"])
