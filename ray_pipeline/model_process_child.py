"""The model process itself: loads a model, answers batches of rows until its worker has gone."""

import fcntl
import importlib
import mmap
import os
import signal
import socket
import sys
from typing import Any

import numpy as np

from ray_pipeline import model_wire as wire
from ray_pipeline.actor import Actor, Asked
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from ray_pipeline.perceiver import Seen
from schemas.job import JobSettings
from schemas.manifest import ManifestRow
from schemas.picture import Picture


def main() -> None:
    """Arguments: descriptors of the socket to the worker and of the lifeline that closes when the worker ends."""
    channel, lifeline = (socket.socket(fileno=int(text)) for text in sys.argv[1:3])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is sent to all processes of a job is the worker's to answer
    _die_with(lifeline)
    order, _ = wire.receive(channel)
    try:
        settings = JobSettings.model_validate(order["settings"])
        actor = Actor(settings) if order["load"] is None else Actor(settings, _found(*order["load"]))
    except Exception as error:  # whatever keeps a model from loading is the worker's to report
        wire.send(channel, {"refused": one_line(f"{type(error).__name__}: {error}")})
        return
    wire.send(channel, {"ready": True})
    try:
        while True:
            _serve(channel, actor)
    except wire.WireBroken:
        return


def _die_with(lifeline: socket.socket) -> None:
    """The kernel ends this process when the worker's end of the lifeline closes, even in the middle of native code.

    Nothing is ever sent on it, so the only event is its closing; and the signal for that event is one nobody can block.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    lifeline.setblocking(False)
    try:
        gone = lifeline.recv(1) == b""  # it closed before the kernel was asked to tell
    except BlockingIOError:
        gone = False
    if gone:
        raise SystemExit(0)


def _found(module: str, name: str) -> Any:
    """A loader by its place, as a worker of the same installation named it."""
    return getattr(importlib.import_module(module), name)


def _serve(channel: socket.socket, actor: Actor) -> None:
    batch, _ = wire.receive(channel)
    rows, asked = {}, {}
    for facts in batch["rows"]:
        row = ManifestRow(facts["number"], facts["id"], facts["image_uri"], facts["page"], facts["question"])
        phrases = tuple(facts["phrases"] or ())
        rows[row.number] = (row, PictureFacts(facts["width"], facts["height"], facts["sha256"]))
        asked[row.number] = Asked(_picture(channel, rows[row.number][1]), row.question or "", phrases)
    for end in actor.answers(asked):
        if end is None:
            wire.send(channel, {"step": True})
            continue
        number, seen = end
        row, known = rows[number]
        made = ok_row(row, known, seen.perception) if isinstance(seen, Seen) else failed_row(row, seen, known)
        wire.send(channel, {"ended": number, "row": made})
    wire.send(channel, {"done": True})


def _picture(channel: socket.socket, facts: PictureFacts) -> Picture:
    _, (descriptor,) = wire.receive(channel)
    try:
        memory = mmap.mmap(
            descriptor, facts.width * facts.height * 3, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    finally:
        os.close(descriptor)
    return Picture(np.frombuffer(memory, np.uint8).reshape(facts.height, facts.width, 3), facts.sha256)
