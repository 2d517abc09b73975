"""The other side of benchmarks/crabnet_accuracy.py: pip's `crabnet` trained by its own loop on rows that are ready.

python crabnet_train_side.py DATA.npz PREDICTIONS.npy --features 128 --epochs 20 --batch 256 --threads 2

DATA.npz holds the elements' `vectors` (118, v) and, of each split, `species_SPLIT`, `fractions_SPLIT` and
`targets_SPLIT`. The loop is `crabnet.model.Model.train`, an epoch a call, with the cycles of the released code: two
epochs each, where pip's version has twenty.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from crabnet_torch_side import import_peer

STEP = 1
"""Epochs of half a cycle of the learning rate."""


def loader_of(arrays, split: str, batch: int, shuffle: bool):
    from crabnet.utils.utils import EDMDataset
    from torch.utils.data import DataLoader

    x = np.concatenate([arrays[f"species_{split}"], arrays[f"fractions_{split}"]], axis=1)[:, :, None]
    targets = arrays[f"targets_{split}"]
    dataset = EDMDataset((x, targets, np.arange(len(targets))), x.shape[1] // 2)
    return DataLoader(dataset, batch_size=batch, shuffle=shuffle)


def trained(network, lamb, lookahead, robust_l1, arrays, options):
    """The package's model after all epochs, with the average of its good states."""
    from crabnet.model import Model
    from crabnet.utils.optim import SWA
    from crabnet.utils.utils import Scaler

    model = Model(network, verbose=False)
    model.batch_size = options.batch
    model.train_loader = loader_of(arrays, "train", options.batch, shuffle=True)
    model.data_loader = loader_of(arrays, "val", options.batch, shuffle=False)
    model.scaler = Scaler(torch.as_tensor(arrays["targets_train"], dtype=torch.float32))
    model.epochs_step, model.swa_start, model.discard_n, model.stepping = STEP, 2, 3, True
    model.criterion = robust_l1
    model.optimizer = SWA(lookahead(base_optimizer=lamb(params=network.parameters())))
    model.lr_scheduler = torch.optim.lr_scheduler.CyclicLR(
        model.optimizer,
        base_lr=1e-4,
        max_lr=6e-3,
        cycle_momentum=False,
        step_size_up=STEP * len(model.train_loader),
    )
    for epoch in range(options.epochs):
        model.epoch = epoch
        model.train()
        if model.optimizer.discard_count >= model.discard_n:
            break
    model.optimizer.swap_swa_sgd()
    return model, epoch + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("predictions", type=Path, help="of the split called test")
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    arrays = np.load(options.data)
    model, epochs = trained(*import_peer(arrays["vectors"], options.features), arrays, options)
    _, predictions, _, _ = model.predict(loader=loader_of(arrays, "test", options.batch, shuffle=False))
    with options.predictions.open("wb") as file:
        np.save(file, np.array([*predictions, epochs]))


if __name__ == "__main__":
    main()
