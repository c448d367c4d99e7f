"""Times PyTorch on one of kd-models' networks: a training step or inference. See protocol.py for how it is driven.

    echo 'step 20' | python scripts/peers/pytorch_step.py --model resnet20 --batch 128 --threads 2

A training step is what kd's is: clear the gradients, forward, mean cross-entropy, backward, SGD with momentum and weight decay. Inference is in
evaluation mode without gradients. The batch stays in memory: loading is not measured.
"""

import argparse

import torch
import torch.nn.functional as F

from models import build, parameter_count
from protocol import positive, serve


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet20", help="a name of kd-models (default: resnet20)")
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--layout", choices=("eager", "channels_last"), default="eager",
                        help="memory format of images, maps and weights: PyTorch's own default (eager) or channels-last")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, shape = build(args.model)
    images, labels = torch.randn(args.batch, *shape), torch.randint(10, (args.batch,))
    if args.layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def train():
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def infer():
        with torch.inference_mode():
            model(images)

    model.train(args.mode == "train")
    serve(train if args.mode == "train" else infer, program=f"PyTorch {torch.__version__}", **vars(args),
          parameters=parameter_count(model), cpu=torch.backends.cpu.get_cpu_capability())


if __name__ == "__main__":
    main()
