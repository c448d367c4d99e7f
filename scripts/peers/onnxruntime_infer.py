"""Times ONNX Runtime's inference, on the processor in f32. See protocol.py for how it is driven.

    echo 'step 50' | python scripts/peers/onnxruntime_infer.py --model resnet20 --batch 1 --threads 2
    echo 'step 50' | python scripts/peers/onnxruntime_infer.py --file model.onnx --batch 1

Either a file with one input, whose first dimension is the batch, or one of kd-models' networks, exported by PyTorch with random weights.
"""

import argparse
import math
import os
import tempfile

import numpy as np
import onnx
import onnxruntime

from protocol import positive, serve


def export(name, batch, path):
    """Writes the network for exactly this batch, as a server would that knows it."""
    import torch

    from models import build, parameter_count

    torch.manual_seed(0)
    model, shape = build(name)
    torch.onnx.export(model.eval(), (torch.zeros(batch, *shape),), path, dynamo=True, external_data=False, verbose=False)
    return parameter_count(model)


def weights(path):
    """How many numbers the file's initialisers hold. Batch normalisation may have been folded into its convolution."""
    graph = onnx.load(path).graph
    return sum(math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", help="an .onnx file")
    source.add_argument("--model", help="a name of kd-models")
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--threads", type=positive, default=2)
    args = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
    # Threads may spin while a step runs, as they do by default, but not after it, when the other program is measured.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or os.path.join(folder, "model.onnx")
        parameters = export(args.model, args.batch, path) if args.model else None
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        count = weights(path)
    (given,) = session.get_inputs()
    batch, *image = given.shape
    if batch != args.batch and isinstance(batch, int):
        parser.error(f"{path} takes a batch of {batch}, not {args.batch}")
    if not all(isinstance(size, int) for size in image):
        parser.error(f"the size of an image is open in {path}: input `{given.name}` is {given.shape}")
    images = np.random.default_rng(0).standard_normal([args.batch, *image], dtype=np.float32)
    serve(lambda: session.run(None, {given.name: images}), program=f"ONNX Runtime {onnxruntime.__version__}",
          **vars(args), parameters=parameters, weights=count)


if __name__ == "__main__":
    main()
