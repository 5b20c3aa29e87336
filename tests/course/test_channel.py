"""A reply whose signal was swallowed is found all the same."""

import asyncio
import time
from queue import Empty

import pytest
import zmq
import zmq.asyncio
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.session import Session
from lectures_for_tests import PATIENCE

from optcourse.course.execution import LOOK_AGAIN, LectureClient, PatientChannel


async def waiting_for_a_reply(channel_class, swallow, then):
    """What ``then`` makes of a task that waits, without a time limit, for a reply that has come."""
    session = Session(key=b"")
    context = zmq.asyncio.Context()
    with context, context.socket(zmq.DEALER) as ours, zmq.Context() as other, other.socket(zmq.DEALER) as kernel:
        port = kernel.bind_to_random_port("tcp://127.0.0.1")
        ours.connect(f"tcp://127.0.0.1:{port}")
        waiting = asyncio.create_task(channel_class(ours, session).get_msg(timeout=None))
        await asyncio.sleep(0.3)
        session.send(kernel, "execute_reply", content={"status": "ok"})
        plain = zmq.Socket.shadow(ours)
        while swallow and not plain.getsockopt(zmq.EVENTS) & zmq.POLLIN:  # whoever asks first is the one who knows
            pass
        await then(waiting)


async def comes(waiting):
    message = await asyncio.wait_for(waiting, PATIENCE)
    assert message["content"] == {"status": "ok"}


async def never_comes(waiting):
    done, _ = await asyncio.wait([waiting], timeout=3 * LOOK_AGAIN)
    waiting.cancel()
    assert not done


@pytest.mark.parametrize("swallow", [True, False])
def test_a_reply_comes_also_when_its_signal_was_swallowed(swallow):
    asyncio.run(waiting_for_a_reply(PatientChannel, swallow, comes))


def test_the_channel_itself_never_hears_of_it():
    """What this is about. Once this fails, PatientChannel can go."""
    asyncio.run(waiting_for_a_reply(AsyncZMQSocketChannel, True, never_comes))


@pytest.mark.parametrize("timeout", [0.0, 1.3])
def test_the_absence_of_a_reply_is_empty_after_the_time_limit(timeout):
    async def nothing():
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
            start = time.monotonic()
            with pytest.raises(Empty):
                await PatientChannel(socket, Session(key=b"")).get_msg(timeout=timeout)
            return time.monotonic() - start

    assert asyncio.run(nothing()) >= timeout


def test_lectures_wait_on_such_a_channel():
    assert LectureClient().shell_channel_class is PatientChannel
