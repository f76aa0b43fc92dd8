# What the person sees of it, with a token of their own: the balance, and this credit explained from figure to source.
# PARTICIPANT and TRANSFER are the participant_id of the enrolment and the transfer_id of the ride.
PARTICIPANT_TOKEN=$(tanpuhui token participant "$PARTICIPANT")
for WHAT in balance "transfers/$TRANSFER"; do
  curl -sS -w ' %{http_code}\n' -H "Authorization: Bearer $PARTICIPANT_TOKEN" -H "Accept-Language: $READ_IN" \
    "$PLATFORM/v1/participants/$PARTICIPANT/$WHAT"
done
