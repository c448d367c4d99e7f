"""Writes a small PyTorch checkpoint (the zip format of torch.save since 1.6) without PyTorch, and prints what its network computes.

    python3 scripts/pytorch_state_dict.py crates/kd-train/tests/data/conv_norm_linear.pt

The network is Conv2d(1, 2, 3) - BatchNorm2d(2) - flatten - Sequential(Linear(8, 4), ReLU(), Linear(4, 3)). Its numbers are multiples of
1/8 that follow from their place, so that any transposed or swapped tensor changes the printed output.
"""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile


def numbers(count, start):
    return [((start + 7 * i) % 17 - 8) / 8 for i in range(count)]


TENSORS = [
    ("conv.weight", (2, 1, 3, 3), numbers(18, 1)),
    ("conv.bias", (2,), numbers(2, 3)),
    ("norm.weight", (2,), [1.5, 0.5]),
    ("norm.bias", (2,), [0.25, -0.75]),
    ("norm.running_mean", (2,), [0.5, -0.25]),
    ("norm.running_var", (2,), [2.0, 0.5]),
    ("norm.num_batches_tracked", (), 12),
    ("head.0.weight", (4, 8), numbers(32, 5)),
    ("head.0.bias", (4,), numbers(4, 2)),
    ("head.2.weight", (3, 4), numbers(12, 9)),
    ("head.2.bias", (3,), numbers(3, 11)),
]


class Torch:
    """Stands for the PyTorch names that the pickle refers to."""

    def __init__(self):
        self.torch = types.ModuleType("torch")
        utils = types.ModuleType("torch._utils")
        for name in ("FloatStorage", "LongStorage"):
            setattr(self.torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

        def _rebuild_tensor_v2(*args):
            raise NotImplementedError

        _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
        utils._rebuild_tensor_v2 = _rebuild_tensor_v2
        self.torch._utils = utils
        sys.modules.update({"torch": self.torch, "torch._utils": utils})


class Storage:
    def __init__(self, kind, key, count):
        self.id = ("storage", kind, key, "cpu", count)


class Tensor:
    def __init__(self, torch, storage, shape):
        strides, step = [], 1
        for size in reversed(shape):
            strides.insert(0, step)
            step *= size
        self.args = (storage, 0, shape, tuple(strides), False, collections.OrderedDict())
        self.rebuild = torch._utils._rebuild_tensor_v2

    def __reduce__(self):
        return self.rebuild, self.args


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        return thing.id if isinstance(thing, Storage) else None


def write(path):
    torch = Torch().torch
    state, blobs = collections.OrderedDict(), []
    for key, (name, shape, values) in enumerate(TENSORS):
        integer = isinstance(values, int)
        values = [values] if integer else values
        storage = Storage(torch.LongStorage if integer else torch.FloatStorage, str(key), len(values))
        state[name] = Tensor(torch, storage, shape)
        blobs.append(struct.pack("<%d%s" % (len(values), "q" if integer else "f"), *values))
    data = io.BytesIO()
    Pickler(data, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        def add(name, content):  # with a fixed date: the same bytes every time
            archive.writestr(zipfile.ZipInfo("archive/" + name, (1980, 1, 1, 0, 0, 0)), content)

        add("data.pkl", data.getvalue())
        add("byteorder", b"little")
        for key, blob in enumerate(blobs):
            add("data/%d" % key, blob)
        add("version", b"3\n")


def forward(image):
    t = {name: values for name, _, values in TENSORS}
    flat = []
    for channel in range(2):
        for y in range(2):
            for x in range(2):
                at = sum(t["conv.weight"][9 * channel + 3 * i + j] * image[y + i][x + j] for i in range(3) for j in range(3))
                at += t["conv.bias"][channel] - t["norm.running_mean"][channel]
                at /= (t["norm.running_var"][channel] + 1e-5) ** 0.5
                flat.append(at * t["norm.weight"][channel] + t["norm.bias"][channel])
    def linear(name, x):
        weight, bias = t[name + ".weight"], t[name + ".bias"]
        return [b + sum(weight[len(x) * row + i] * v for i, v in enumerate(x)) for row, b in enumerate(bias)]
    return linear("head.2", [max(v, 0.0) for v in linear("head.0", flat)])


if __name__ == "__main__":
    write(sys.argv[1])
    print("output for the image 0, 1/16, ..., 15/16:", forward([[(4 * y + x) / 16 for x in range(4)] for y in range(4)]))
