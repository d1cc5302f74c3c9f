"""A training that is stopped at any moment goes on to the weights that it would have come to."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import extract.tuning.checkpoints as checkpoints
from extract.tuning.checkpoints import Checkpoint
from extract.tuning.training import Trainer
from tests.extract.tuning.conftest import PLAIN
from tests.extract.tuning.test_tuning import same

# 12 images in batches of 4 for 3 epochs: 9 steps
TUNING = replace(PLAIN, epochs=3, dropout=0.2, mixup=0.3, average=True)


class Killed(BaseException):
    """In place of a signal: nothing catches it."""


def dies(monkeypatch, name, at, in_order=False):
    """Have the so-manieth call of a method end the training before it does anything.

    in_order : whether it is left time to write how far it has come.
    """
    calls = []
    owner = Checkpoint if name == "write" else Trainer
    method = getattr(owner, name)

    def counted(own, *arguments):
        calls.append(1)
        if len(calls) >= at:
            own.in_order = in_order
            raise Killed
        return method(own, *arguments)

    monkeypatch.setattr(owner, name, counted)


def kill(call, name, at, in_order=False):
    """Tune until then."""
    with pytest.MonkeyPatch.context() as patch:
        dies(patch, name, at, in_order)
        with pytest.raises(Killed):
            call()


@pytest.fixture
def at_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "TIMES_ITS_WRITING", 0)


MOMENTS = [("_step", 1), ("_step", 2), ("_step", 5), ("_step", 9), ("_validate", 3), ("write", 4)]


GRADUAL = {"unfreeze": "gradual", "rates": (2, 3, 4)}  # from the images
KILLS = [
    *((*moment, {}) for moment in MOMENTS),
    ("_step", 5, GRADUAL),
    ("_step", 5, {"precision": "bfloat16"}),
    *(pytest.param(*moment, GRADUAL, marks=pytest.mark.slow) for moment in MOMENTS),
]


@pytest.mark.parametrize(("name", "at", "more"), KILLS)
def test_after_a_kill_the_weights_are_the_same(call, at_every_step, name, at, more):
    call = replace(call, tuning=replace(TUNING, **more))
    expected = call()
    again = replace(call, folder=call.folder.with_name("again"))
    kill(again, name, at)
    left = list(again.folder.glob("*.checkpoint")) if again.folder.exists() else []
    assert len(left) == ((name, at) != ("_step", 1))
    found = again()
    assert found.resumed == bool(left)
    assert same(expected, found)
    assert [own.val_loss for own in found.history] == [own.val_loss for own in expected.history]
    assert [own.train_loss for own in found.history] == [own.train_loss for own in expected.history]
    assert not list(again.folder.glob("*.checkpoint"))


@pytest.mark.parametrize(("name", "at"), MOMENTS[1:-1])
def test_what_is_stopped_is_kept_at_once(call, name, at):
    """Not only every ten seconds: between two steps all is in order."""
    call = replace(call, tuning=TUNING)
    expected = call()
    again = replace(call, folder=call.folder.with_name("again"))
    kill(again, name, at, in_order=True)
    assert len(list(again.folder.glob("*.checkpoint"))) == 1
    found = again()
    assert found.resumed
    assert same(expected, found)
    assert [own.rates for own in found.history] == [own.rates for own in expected.history]


def test_a_checkpoint_of_other_tensors_changes_nothing(call, at_every_step):
    """Its checksum is right: of another version, say."""
    from safetensors.torch import save

    from extract.files import write_sealed

    call = replace(call, tuning=TUNING)
    expected = call()
    again = replace(call, folder=call.folder.with_name("again"))
    kill(again, "_step", 5)
    (left,) = again.folder.glob("*.checkpoint")
    tensors, about = opened_checkpoint(left)
    name = next(name for name in tensors if name.startswith("best/features"))
    del tensors[name]
    write_sealed(left, save(tensors, about))
    found = again()
    assert not found.resumed
    assert same(expected, found)


def opened_checkpoint(path):
    """Its tensors and what it says beside them."""
    import json

    from safetensors.torch import load

    from extract.files import read_sealed

    body = read_sealed(path)
    size = int.from_bytes(body[:8], "little")
    return load(body), json.loads(body[8 : 8 + size])["__metadata__"]


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_forgotten(call, at_every_step, damage):
    call = replace(call, tuning=TUNING)
    expected = call()
    again = replace(call, folder=call.folder.with_name("again"))
    kill(again, "_step", 5)
    (left,) = again.folder.glob("*.checkpoint")
    data = bytearray(left.read_bytes())
    data[len(data) // 2] ^= 4
    left.write_bytes(bytes(data) if damage is None else damage)
    found = again()
    assert not found.resumed
    assert same(expected, found)


def test_it_is_written_every_ten_seconds_and_not_all_the_time(call, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    write = Checkpoint.write

    def slow(own, trainer):
        written.append(clock[0])
        write(own, trainer)
        own._took = 1.0  # a second, so that it waits for twenty

    monkeypatch.setattr(Checkpoint, "write", slow)
    step = Trainer._step

    def long_step(trainer, *arguments):
        clock[0] += 4.0
        return step(trainer, *arguments)

    monkeypatch.setattr(Trainer, "_step", long_step)
    replace(call, tuning=TUNING)()
    assert written == [12.0, 32.0]


SCRIPT = """
import os, pickle, signal, sys
import extract.tuning.checkpoints as checkpoints
from extract.tuning.training import Trainer

checkpoints.SECONDS = checkpoints.TIMES_ITS_WRITING = 0
left, step = int(sys.argv[2]), Trainer._step

def counted(*arguments):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

Trainer._step = counted
call = pickle.loads(open(sys.argv[1], "rb").read())
call()
"""


@pytest.mark.slow
def test_killed_five_times_in_turn(on_disk, tmp_path):
    """By the system, in processes of their own, each going on where the one before was killed."""
    import pickle

    call = replace(on_disk, tuning=TUNING)
    expected = call()
    again = replace(call, folder=call.folder.with_name("again"))
    (tmp_path / "call.pickle").write_bytes(pickle.dumps(again))
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    for _ in range(5):
        arguments = [sys.executable, "-c", SCRIPT, str(tmp_path / "call.pickle"), "2"]
        ended = subprocess.run(arguments, env=environment, capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    found = again()
    assert found.resumed
    assert same(expected, found)
