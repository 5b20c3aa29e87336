"""A reply whose signal was swallowed is found all the same."""

import asyncio
import time
from queue import Empty

import pytest
import zmq
import zmq.asyncio
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.session import Session

from optcourse.course.execution import LOOK_AGAIN, LectureClient, PatientChannel


async def seconds_until_reply(channel_class, timeout, swallow):
    session = Session(key=b"")
    context = zmq.asyncio.Context()
    with context, context.socket(zmq.DEALER) as ours, zmq.Context() as other, other.socket(zmq.DEALER) as kernel:
        port = kernel.bind_to_random_port("tcp://127.0.0.1")
        ours.connect(f"tcp://127.0.0.1:{port}")
        waiting = asyncio.create_task(channel_class(ours, session).get_msg(timeout=timeout))
        await asyncio.sleep(0.3)
        start = time.monotonic()
        session.send(kernel, "execute_reply", content={"status": "ok"})
        plain = zmq.Socket.shadow(ours)
        while swallow and not plain.getsockopt(zmq.EVENTS) & zmq.POLLIN:  # whoever asks first is the one who knows
            pass
        message = await waiting
        assert message["content"] == {"status": "ok"}
        return time.monotonic() - start


def test_a_swallowed_signal_costs_a_second_and_not_the_whole_time_limit():
    assert asyncio.run(seconds_until_reply(PatientChannel, timeout=60, swallow=True)) < 10 * LOOK_AGAIN
    # What this is about: the channel itself waits until its time is over. Once this fails, PatientChannel can go.
    assert asyncio.run(seconds_until_reply(AsyncZMQSocketChannel, timeout=3, swallow=True)) > 2.5


def test_without_a_time_limit_a_reply_comes_and_with_one_its_absence_is_empty():
    asyncio.run(seconds_until_reply(PatientChannel, timeout=None, swallow=False))

    async def nothing(timeout):
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
            start = time.monotonic()
            with pytest.raises(Empty):
                await PatientChannel(socket, Session(key=b"")).get_msg(timeout=timeout)
            return time.monotonic() - start

    assert asyncio.run(nothing(0.0)) < 1
    assert asyncio.run(nothing(1.3)) >= 1.3


def test_lectures_wait_on_such_a_channel():
    assert LectureClient().shell_channel_class is PatientChannel
