"""The alert buffer: an SQS queue that EventBridge (GuardDuty, Security Hub) writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bot.adapters.aws_api import AwsApi

LONGEST_WAIT = 20  # seconds; SQS allows no more
BATCH = 10  # messages a call


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery. `receipt` is good for this delivery only, until its visibility timeout; `attributes` are SQS's own
    (`ApproximateReceiveCount`, `SentTimestamp` in ms); `id` is the same in every delivery."""

    id: str
    receipt: str
    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def deliveries(self) -> int:
        """How often it was handed out, this time included."""
        return int(self.attributes.get("ApproximateReceiveCount", "1"))


class Queue:
    """Reads one queue. All methods raise errors.Unavailable, errors.Denied or errors.Rejected.

    A message is deleted only after its alerts are stored: until then SQS hands it out again after its visibility
    timeout. What cannot be read ends in the queue's dead-letter queue, by its redrive policy, not here.
    """

    def __init__(
        self,
        url: str,
        region: str,
        endpoint_url: str | None = None,
        credentials: Mapping[str, str] | None = None,
        *,
        system: str = "sqs",
        role: str | None = None,
        external_id: str | None = None,
    ) -> None:
        """`credentials`, `role` and `external_id` as for AwsApi; nothing is called yet."""
        self.url = url
        self._api = AwsApi(
            system=system,
            region=region,
            endpoint_url=endpoint_url,
            credentials=credentials,
            role=role,
            external_id=external_id,
            read_timeout=LONGEST_WAIT + 10.0,  # a long poll answers late on purpose
        )

    def receive(self, max: int = BATCH, wait: int = LONGEST_WAIT) -> tuple[Message, ...]:
        """Up to `max` (1-10) messages; () where none came within `wait` seconds (0-20)."""
        answer = self._api.call(
            "sqs",
            "receive_message",
            QueueUrl=self.url,
            MaxNumberOfMessages=max,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["All"],
        )
        return tuple(
            Message(one["MessageId"], one["ReceiptHandle"], one["Body"], one.get("Attributes", {}))
            for one in answer.get("Messages", ())
        )

    def delete(self, receipts: Sequence[str]) -> tuple[str, ...]:
        """The receipts that could not be deleted: their messages will come again. Deleting twice succeeds."""
        return self._batches("delete_message_batch", receipts)

    def extend(self, receipts: Sequence[str], seconds: int) -> tuple[str, ...]:
        """Keeps messages out of others' hands for `seconds` from now (0 hands them out at once). Returns the receipts
        for which that failed: they have expired, and another reader may have the message."""
        return self._batches("change_message_visibility_batch", receipts, VisibilityTimeout=seconds)

    def _batches(self, operation: str, receipts: Sequence[str], **more: int) -> tuple[str, ...]:
        failed: list[str] = []
        for start in range(0, len(receipts), BATCH):
            entries = [
                {"Id": str(n), "ReceiptHandle": receipt, **more}
                for n, receipt in enumerate(receipts[start : start + BATCH], start)
            ]
            answer = self._api.call("sqs", operation, QueueUrl=self.url, Entries=entries)
            failed += [receipts[int(one["Id"])] for one in answer.get("Failed", ())]
        return tuple(failed)
