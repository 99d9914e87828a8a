"""The real SQS client against moto's server."""

from __future__ import annotations

import uuid

import boto3
import pytest

from bot.adapters.sqs import Queue
from bot.errors import Rejected, Unavailable

CREDENTIALS = {"access_key_id": "testing", "secret_access_key": "testing"}


@pytest.fixture
def queue(moto: str) -> Queue:
    sender = _sender(moto)
    url = sender.create_queue(QueueName=f"alerts-{uuid.uuid4().hex}", Attributes={"VisibilityTimeout": "60"})[
        "QueueUrl"
    ]
    return Queue(url, "us-east-1", moto, CREDENTIALS)


def _sender(moto: str):
    return boto3.client(
        "sqs", region_name="us-east-1", endpoint_url=moto, aws_access_key_id="testing", aws_secret_access_key="testing"
    )


def test_what_was_sent_is_received_once_and_deleted(queue: Queue, moto: str):
    _sender(moto).send_message(QueueUrl=queue.url, MessageBody='{"detail": {}}')
    (message,) = queue.receive(wait=0)
    assert (message.body, message.deliveries) == ('{"detail": {}}', 1)
    assert queue.receive(wait=0) == (), "in our hands until its visibility timeout"
    assert queue.delete([message.receipt]) == ()
    assert queue.receive(wait=0) == ()


def test_handing_back_brings_it_again_with_its_count(queue: Queue, moto: str):
    _sender(moto).send_message(QueueUrl=queue.url, MessageBody="x")
    (first,) = queue.receive(wait=0)
    assert queue.extend([first.receipt], 0) == ()
    (again,) = queue.receive(wait=0)
    assert (again.id, again.deliveries) == (first.id, 2)


def test_more_than_a_batch_is_deleted(queue: Queue, moto: str):
    sender = _sender(moto)
    for n in range(23):
        sender.send_message(QueueUrl=queue.url, MessageBody=str(n))
    got = [message for _ in range(3) for message in queue.receive(wait=0)]
    assert sorted(int(message.body) for message in got) == list(range(23))
    assert queue.delete([message.receipt for message in got]) == ()
    left = sender.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])["Attributes"]
    assert (left["ApproximateNumberOfMessages"], left["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


def test_an_expired_receipt_is_named(queue: Queue, moto: str):
    _sender(moto).send_message(QueueUrl=queue.url, MessageBody="x")
    (message,) = queue.receive(wait=0)
    assert queue.extend([message.receipt, "no-such-receipt"], 30) == ("no-such-receipt",)


def test_a_missing_queue_is_rejected_and_a_silent_endpoint_unavailable(queue: Queue, moto: str):
    gone = Queue(queue.url + "-gone", "us-east-1", moto, CREDENTIALS)
    with pytest.raises(Rejected, match="ReceiveMessage"):
        gone.receive(wait=0)
    nowhere = Queue(queue.url, "us-east-1", "http://127.0.0.1:9", CREDENTIALS)
    with pytest.raises(Unavailable) as caught:
        nowhere.receive(wait=0)
    assert not caught.value.sent
