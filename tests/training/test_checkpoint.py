from __future__ import annotations

import threading
from dataclasses import asdict, replace

import pytest
import torch

from napari_ood.errors import TrainingCancelled, TrainingError
from napari_ood.training import train
from napari_ood.training.checkpoint import FILE_NAME, read_checkpoint


@pytest.fixture(scope="module")
def full(config):
    """Everything that draws random numbers or keeps a state."""
    return replace(
        config,
        head_epochs=1,
        epochs=3,
        cycles=2,
        dropout=0.3,
        mixup=0.2,
        balance="dynamic",
        loss="wta_batch",
        random_winner=0.2,
        layer_decay=0.7,
        crop=24,
    )


@pytest.fixture(scope="module")
def undisturbed(data, full):
    return train(*data, full)


def stop_in(epoch: int, batches: int = 3):
    """``cancel`` that says yes after some batches of an epoch (8 batches each)."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= (epoch - 1) * 8 + batches


def assert_same(a, b):
    pairs = zip(a.net.state_dict().items(), b.net.state_dict().items(), strict=True)
    assert [name for (name, x), (_, y) in pairs if not torch.equal(x, y)] == []
    without_time = [[{**asdict(r), "seconds": 0} for r in t.history] for t in (a, b)]
    assert without_time[0] == without_time[1]
    assert a.temperature == b.temperature
    assert a.usage == b.usage


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit(
    data, full, undisturbed, tmp_path, epoch
):
    with pytest.raises(TrainingCancelled, match="resume goes on") as caught:
        train(*data, full, checkpoint=tmp_path, cancel=stop_in(epoch))
    assert len(caught.value.trained.history) == epoch - 1
    resumed = train(*data, full, checkpoint=tmp_path, resume=True)
    assert_same(resumed, undisturbed)
    seconds = [r.seconds for r in resumed.history]
    assert seconds == sorted(seconds)
    again = train(*data, full, checkpoint=tmp_path, resume=True)  # nothing is left to do
    assert_same(again, undisturbed)


def test_ctrl_c_leaves_a_whole_checkpoint(data, full, undisturbed, tmp_path, monkeypatch):
    """Even in the middle of writing the next one."""
    from napari_ood.training import checkpoint

    written = iter([False, True])
    save = checkpoint.save_file

    def interrupted(tensors, file, facts):
        save(tensors, file, facts)
        if next(written):
            file.write_bytes(b"half")
            raise KeyboardInterrupt

    file = tmp_path / "mine.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save_file", interrupted)
        train(*data, full, checkpoint=file)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
    assert len(read_checkpoint(file).facts["history"]) == 1
    assert_same(train(*data, full, checkpoint=file, resume=True), undisturbed)


def test_cancelling_before_the_first_epoch_ends_leaves_nothing(data, config, tmp_path):
    event = threading.Event()
    event.set()
    with pytest.raises(TrainingCancelled) as caught:
        train(*data, config, checkpoint=tmp_path, cancel=event)
    assert caught.value.trained is None
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def stored(data, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    train(*data, replace(config, epochs=1), checkpoint=folder)
    return folder


def test_a_checkpoint_of_another_training_says_what_differs(data, config, stored):
    config = replace(config, epochs=1)
    images, labels, *held_out = data
    changed = replace(config, dropout=0.1, learning_rate=1e-4)
    with pytest.raises(TrainingError, match=r"dropout 0\.0 → 0\.1; learning_rate"):
        train(*data, changed, checkpoint=stored, resume=True)
    with pytest.raises(TrainingError, match="other training labels"):
        train(images, 1 - labels, *held_out, config, checkpoint=stored, resume=True)
    other = train(*data, config).net
    with pytest.raises(TrainingError, match="other initial weights"):
        train(*data, config, init=other, checkpoint=stored, resume=True)


def test_a_damaged_checkpoint_is_refused(data, config, stored, tmp_path):
    whole = (stored / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        train(*data, replace(config, epochs=1), checkpoint=tmp_path, resume=True)


def test_what_was_measured_is_not_measured_again(data, config, tmp_path, monkeypatch):
    config = replace(config, precision="auto", epochs=2)
    for answer in ("bf16", "fp32"):  # the second is not asked for
        monkeypatch.setattr("napari_ood.training.session.choose_precision", lambda *_, a=answer: a)
        if answer == "bf16":
            with pytest.raises(TrainingCancelled):
                train(*data, config, checkpoint=tmp_path, cancel=stop_in(2))
    assert train(*data, config, checkpoint=tmp_path, resume=True).precision == "bf16"
    explicit = replace(config, precision="fp32")
    assert train(*data, explicit, checkpoint=tmp_path, resume=True).precision == "fp32"
